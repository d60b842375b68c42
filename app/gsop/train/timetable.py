"""Which steps of a run end in more than new weights."""

import math
from dataclasses import dataclass
from typing import Final, Self

from gsop.train.data.dataset import DataSet
from gsop.train.data.loader import steps_per_epoch
from gsop.train.recipe import Recipe

SHARE_BESIDE: Final = 0.03
"""Of a training's work that the looks by the weights without their average may take. An image that
is trained on is worth three that are looked at: backwards it is twice the work."""


@dataclass(frozen=True)
class Timetable:
    """When a run is measured, logged and saved, and when it ends.

    Each method takes the steps that are done, from 1.

    Attributes:
        epoch_steps: of one pass over the images.
        total_steps: of the whole run.
        validate_every: steps between two looks at the held-out images; 0 for one at the end only.
        log_every: steps between two rows of the log.
        checkpoint_every: steps between two checkpoints.
    """

    epoch_steps: int
    total_steps: int
    validate_every: int
    log_every: int
    checkpoint_every: int

    @classmethod
    def of(cls, recipe: Recipe, data: DataSet) -> Self:
        """The timetable of ``recipe`` on ``data``.

        Raises:
            ConfigError: if a batch is more than all images.
        """
        epoch_steps = steps_per_epoch(data, recipe.batch_size)
        return cls(
            epoch_steps=epoch_steps,
            total_steps=recipe.schedule.total_steps(epoch_steps),
            validate_every=recipe.schedule.in_steps(recipe.schedule.validate_every, epoch_steps),
            log_every=recipe.log_every,
            checkpoint_every=recipe.checkpoint_every,
        )

    def is_last(self, step: int) -> bool:
        """Whether the run ends here."""
        return step == self.total_steps

    def validates(self, step: int) -> bool:
        """Whether the held-out images are looked at; at the end of the run they are besides."""
        return (
            self.validate_every > 0 and step % self.validate_every == 0 and not self.is_last(step)
        )

    def looks_beside(self, step: int, *, held_out: int, batch_size: int) -> bool:
        """Whether the held-out images are looked at by the weights without their average too.

        At the end of the run, and on the way at each look or at each so-many-th, as few as keep
        within :data:`SHARE_BESIDE`.

        Args:
            step: after which the held-out images are looked at.
            held_out: how many these are.
            batch_size: images of a step.
        """
        if self.is_last(step) or not self.validate_every:
            return self.is_last(step)
        every = math.ceil(held_out / (3 * SHARE_BESIDE * batch_size * self.validate_every))
        return step // self.validate_every % max(1, every) == 0

    def logs(self, step: int) -> bool:
        """Whether the log gets a row."""
        return step % self.log_every == 0 or self.is_last(step)

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is written: also at the end of each epoch, and of the run."""
        return (
            step % self.checkpoint_every == 0 or step % self.epoch_steps == 0 or self.is_last(step)
        )

"""What is seen of a run while it trains: its meter, rows of the log, held-out and broken images."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from gsop.errors import SetupError
from gsop.images import InputSpec
from gsop.model.config import gate_layout
from gsop.model.resnet import GSoPResNet
from gsop.train.data.dataset import Sample
from gsop.train.data.loader import Part
from gsop.train.evaluate import Score, score
from gsop.train.fabric import sum_of_all
from gsop.train.recipe import Recipe

SCORED_AT_A_TIME = 256
"""Held-out images that a process takes at a time, when several share them."""

EXAMINED_FIRST = 100
"""Images before ``max_broken`` is applied: of fewer, one broken file would be a large share."""


# ── the meter, and what it comes to ──────────────────────────────────────────────────────────────


class Seen(NamedTuple):
    """What a meter has counted.

    Attributes:
        loss: mean over the parts of all processes.
        accuracy: share of the images of all processes that were named right, 0 to 1.
        images: of all processes.
        seconds: of this process.
        waiting: seconds of them that it waited for images.
    """

    loss: float
    accuracy: float
    images: int
    seconds: float
    waiting: float


@dataclass
class Meter:
    """Sums since the last row of the log, of this process.

    Those on the device are read only for a row: each reading waits for the device.
    """

    loss: Tensor
    correct: Tensor
    images: int = 0
    parts: int = 0
    seconds: float = 0.0
    waiting: float = 0.0

    @classmethod
    def at_zero(cls, device: torch.device) -> "Meter":
        """A meter that has seen nothing."""
        return cls(torch.zeros((), device=device), torch.zeros((), device=device))

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count one part: its mean loss, its logits (N, classes), and its labels (N,)."""
        self.loss += loss.detach()
        self.correct += (logits.detach().argmax(dim=1) == labels).sum()
        self.images += len(labels)
        self.parts += 1

    def note_gradients(self, norm: Tensor) -> None:
        """Have a norm that is not finite show in the loss, which then is no number either."""
        self.loss += 0 * norm.detach()

    def read(self, fabric: Fabric) -> Seen:
        """What all processes' meters come to together."""
        images = sum_of_all(fabric, self.images)
        return Seen(
            loss=sum_of_all(fabric, float(self.loss)) / sum_of_all(fabric, self.parts),
            accuracy=sum_of_all(fabric, float(self.correct)) / images,
            images=int(images),
            seconds=self.seconds,
            waiting=self.waiting,
        )


@dataclass
class Totals:
    """What was seen of the whole run, what came before a pause included.

    Attributes:
        seconds: of training, the looks at the held-out images included.
        waiting: seconds of them that this process waited for images.
        loss: of the last row of the log.
        top1: of the last look at the held-out images.
        held_out_loss: likewise.
        best_step: after which they were looked at with the least loss; 0 before the first look.
        best_loss: that loss.
        best_top1: of the same look.
        looks_since_best: looks that found no better one since.
        broken: names of the images that this process could not read.
    """

    seconds: float = 0.0
    waiting: float = 0.0
    loss: float = math.nan
    top1: float = math.nan
    held_out_loss: float = math.nan
    best_step: int = 0
    best_loss: float = math.inf
    best_top1: float = math.nan
    looks_since_best: int = 0
    broken: set[str] = field(default_factory=set)

    def add(self, seen: Seen) -> None:
        """Take in what the meter has seen for a row."""
        self.loss = seen.loss
        self.seconds += seen.seconds
        self.waiting += seen.waiting

    def add_score(self, found: Score, step: int) -> bool:
        """Take in a look at the held-out images after ``step``; whether it is the best so far."""
        self.top1, self.held_out_loss = found.top1, found.loss
        self.broken.update(found.broken)
        if found.loss >= self.best_loss:
            self.looks_since_best += 1
            return False
        self.best_step, self.best_loss, self.best_top1 = step, found.loss, found.top1
        self.looks_since_best = 0
        return True


class Diverged(SetupError):
    """The loss of a training is infinite, or not a number."""


def check_finite(loss: float, step: int) -> None:
    """Whether the training still leads somewhere.

    Raises:
        Diverged: if the loss is infinite or not a number; it says what to change.
    """
    if not math.isfinite(loss):
        raise Diverged(
            f"the loss is {loss} at step {step}: lower the learning rate "
            "(--set optimizer.learning_rate=...), or bound the gradients "
            "(--set optimizer.clip=1)"
        )


def check_everywhere(fabric: Fabric, meter: Meter, step: int) -> None:
    """:func:`check_finite` of what all processes have seen, called by all of them at one place.

    Raises:
        SetupError: in each of them, if it is one's: none is left waiting for another.
    """
    check_finite(sum_of_all(fabric, float(meter.loss)), step)


# ── rows of the log ──────────────────────────────────────────────────────────────────────────────


def columns(recipe: Recipe) -> tuple[str, ...]:
    """The columns of a run's log: those of every run, then two for each gate of its network.

    ``plain_*`` are there where weights are averaged: of the held-out images, by those that are not.
    """
    gates = gate_layout(recipe.config, recipe.input.height, recipe.input.width)
    return (
        "step",
        "epoch",
        "images",
        "seconds",
        "loss",
        "accuracy",
        "learning_rate",
        "images_per_second",
        "waiting",
        "held_out_top1",
        "held_out_loss",
        *(("plain_top1", "plain_loss") if recipe.ema_decay else ()),
        *(f"{gate.name}.{what}" for gate in gates for what in ("mean", "spread")),
    )


def make_row(
    seen: Seen,
    gates: Mapping[str, Tensor],
    *,
    step: int,
    epoch: float,
    images: int,
    seconds: float,
    learning_rate: float,
    held_out: Score | None,
    plain: Score | None,
) -> dict[str, float | int | None]:
    """A row of the log, by column: about the steps since the last one.

    Args:
        seen: in these steps.
        gates: of this process's last part, by name.
        step: steps done in the whole run; ``epoch``, ``images`` and ``seconds`` likewise.
        epoch: passes over the images.
        images: seen by all processes.
        seconds: spent.
        learning_rate: of the last step.
        held_out: the held-out images' score, if they were looked at after this step.
        plain: the same by the weights that are not averaged, where they are averaged.
    """
    row: dict[str, float | int | None] = {
        "step": step,
        "epoch": epoch,
        "images": images,
        "seconds": seconds,
        "loss": seen.loss,
        "accuracy": seen.accuracy,
        "learning_rate": learning_rate,
        "images_per_second": seen.images / seen.seconds,
        "waiting": seen.waiting / seen.seconds,
        "held_out_top1": None if held_out is None else held_out.top1,
        "held_out_loss": None if held_out is None else held_out.loss,
    }
    if plain is not None:
        row |= {"plain_top1": plain.top1, "plain_loss": plain.loss}
    for name, gate in gates.items():
        row[f"{name}.mean"] = float(gate.mean())
        row[f"{name}.spread"] = float(gate.std())
    return row


# ── images that training does not see, or cannot ─────────────────────────────────────────────────


def score_held_out(
    fabric: Fabric, model: GSoPResNet, spec: InputSpec, samples: Sequence[Sample]
) -> Score:
    """Score the network on the held-out images, which the processes share among themselves.

    Args:
        fabric: device and processes.
        model: the same in all processes; its layers are left in the modes that they are in.
        spec: how an image is prepared for it.
        samples: the held-out images, in every process all of them.

    Returns:
        Over all processes; the broken images are those that this process has met.

    Raises:
        SetupError: if none of them can be read.
    """
    correct = read = 0
    loss = 0.0
    broken: list[str] = []
    stride = SCORED_AT_A_TIME * fabric.world_size
    first = SCORED_AT_A_TIME * fabric.global_rank
    with _modes_kept(model):
        for start in range(first, len(samples), stride):
            some = samples[start : start + SCORED_AT_A_TIME]
            found = score(model, spec, some, device=fabric.device)
            correct += found.correct
            read += found.samples
            loss += found.loss_sum
            broken += found.broken
    whole = Score(
        int(sum_of_all(fabric, correct)),
        int(sum_of_all(fabric, read)),
        tuple(broken),
        sum_of_all(fabric, loss),
    )
    if not whole.samples:
        raise SetupError("none of the held-out images can be read: mend the data")
    return whole


def score_beside(
    fabric: Fabric, model: GSoPResNet, spec: InputSpec, samples: Sequence[Sample]
) -> Score:
    """:func:`score_held_out` of weights that are not kept: for the log, and for nothing else."""
    return score_held_out(fabric, model, spec, samples)


@contextmanager
def _modes_kept(model: nn.Module) -> Iterator[None]:
    """Each layer ends in the mode, of training or evaluation, that it began in."""
    modes = [(layer, layer.training) for layer in model.modules()]
    try:
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode


def note_broken(
    batch: Iterable[Part],
    broken: set[str],
    *,
    images: int,
    max_broken: float,
    say: Callable[[str], None],
) -> None:
    """Name the images that could not be read, and stop the run if they are too many.

    Args:
        batch: this process's parts of a step.
        broken: names of those that are known; new ones are added.
        images: to train on.
        max_broken: the share of them that may be broken.
        say: tells the user a line.

    Raises:
        SetupError: if they are more.
    """
    for name in (name for part in batch for name in part.broken):
        if name not in broken:
            broken.add(name)
            say(f"skipped, as it cannot be read: {name}")
    if len(broken) > max_broken * max(images, EXAMINED_FIRST):
        raise SetupError(
            f"{len(broken)} of {images} images cannot be read, more than max_broken "
            f"({max_broken:.2%}) allows; among them {', '.join(sorted(broken)[:5])}"
            ": mend or remove them, or allow more with --set max_broken=SHARE"
        )

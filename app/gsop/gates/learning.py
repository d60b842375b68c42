"""A reference learned from the first images that are served, for a version that brings none."""

import numpy as np
import numpy.typing as npt

from gsop.gates.answers import AnswerLayout
from gsop.gates.reference import Reference
from gsop.gates.repeats import Repeats

BURST = 50
"""Consecutive images that may be alike."""

Answers = npt.NDArray[np.float32]


class Learner:
    """Waits until there are as many different images as it takes.

    Attributes:
        wanted: images to learn from.
    """

    def __init__(self, layout: AnswerLayout, wanted: int) -> None:
        self.wanted = wanted
        self._layout = layout
        self._repeats = Repeats(layout.gate_size)
        self._parts: list[Answers] = []
        self.seen = 0
        """Different images that there are."""

    def add(self, values: Answers) -> None:
        """Take N answers in, ``(N, width)``; those of images that came before are passed over."""
        new = values[self._repeats.sort_out(self._layout.gate_values(values))]
        self._parts.append(new[: self.wanted - self.seen].copy())
        self.seen += len(self._parts[-1])

    @property
    def answers(self) -> Answers:
        """Those of the different images, ``(seen, width)``, the first ones first."""
        return np.concatenate([np.zeros((0, self._layout.width), np.float32), *self._parts])

    @property
    def is_done(self) -> bool:
        """Whether there are as many as are wanted."""
        return self.seen >= self.wanted

    def learn(self) -> Reference:
        """The reference of those that there are."""
        groups = np.arange(self.seen) // BURST
        return Reference.learn(self._layout, self.answers, groups)

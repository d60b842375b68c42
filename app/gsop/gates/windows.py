"""How far the gates of the newest images lie from a reference, window by window.

A window is a number of different images in blocks of consecutive ones. Of each gate it keeps sums
alone: of the residuals, and of the squares of the blocks' sums. The first say how far the mean is
off; the second say how much of that is chance where consecutive images are alike (frames of a
film, a client that sends one thing again and again): the mean of images that come in bursts strays
further than that of as many independent ones, and so do the means of its blocks.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from gsop.gates.arrays import Arrays
from gsop.gates.population import Classes, Doubles, Floats, Population, sums_by
from gsop.gates.repeats import Repeats

BLOCKS = 20
"""Of a window."""

FALSE_ALARMS = 1e-3
"""Share of windows of independent, normally distributed images of which a gate may say that they
have drifted; two in a row have to say so."""

SPLITS, QUANTILE = 200, 0.995
"""How the limit is calibrated: halvings of the reference's images, and how many stay below it."""


@dataclass
class Window:
    """What is kept of the images of one window.

    Attributes:
        images: how many there are.
        blocks: how many blocks of them.
        sums: ``(G,)``, of the residuals.
        squares: ``(G,)``, of the squares of the blocks' sums.
        classes: ``(C,)``, images of each predicted class.
        began, ended: Unix times of the first and the last image.
    """

    images: int
    blocks: int
    sums: Doubles
    squares: Doubles
    classes: Doubles
    began: float = 0.0
    ended: float = 0.0

    @classmethod
    def empty(cls, gates: int, classes: int) -> Self:
        """No image yet."""
        return cls(0, 0, np.zeros(gates), np.zeros(gates), np.zeros(classes))

    def merge(self, other: Self) -> None:
        """Count what another window has counted."""
        self.began = min(self.began or other.began, other.began or self.began)
        self.ended = max(self.ended, other.ended)
        self.images += other.images
        self.blocks += other.blocks
        for mine, its in (
            (self.sums, other.sums),
            (self.squares, other.squares),
            (self.classes, other.classes),
        ):
            mine += its

    @property
    def mix(self) -> Doubles:
        """``(C,)``: the shares of the predicted classes."""
        mix: Doubles = self.classes / self.images
        return mix

    @property
    def shifts(self) -> Doubles:
        """``(G,)``: how far each gate's mean is off, in deviations of the gate."""
        shifts: Doubles = self.sums / self.images
        return shifts

    @property
    def repeats(self) -> float:
        """How many of the images say as much as one independent image; 1 at least.

        The median over the gates, for it is the images that come in bursts, not the gates.
        """
        if self.blocks < 2:
            return 1.0
        strayed = (self.squares - np.square(self.sums) / self.blocks) / (self.blocks - 1)
        moved = strayed > 0
        if not moved.any():
            return 1.0
        return max(1.0, float(np.median(strayed[moved])) * self.blocks / self.images)

    def evidence(self, uncertainty: float) -> Doubles:
        """``(G,)``: the shifts in standard errors, as normal deviates.

        Args:
            uncertainty: variance of the reference's means, in squared deviations.
        """
        error = np.sqrt(self.repeats / self.images + uncertainty)
        evidence: Doubles = self.shifts / error
        return evidence


class Windows:
    """The last windows of one engine.

    Attributes:
        population: what is compared with.
        limit: of the evidence, from which on a window has drifted.
        size: different images in a window.
        finished: the last two that are full, older first.
        current: the window that is being filled.
        counted: images in full blocks, of all windows.
    """

    def __init__(self, population: Population, limit: float, size: int) -> None:
        self.population = population
        self.limit = limit
        self.size = size
        self.finished: deque[Window] = deque(maxlen=2)
        self.counted = 0
        self._classes, self._gates = population.offsets.shape
        self._repeats = Repeats(self._gates)
        self._begin()

    def _begin(self) -> None:
        self.current, self._block = self._empty(), self._empty()
        self._repeats.forget()

    def _empty(self) -> Window:
        return Window.empty(self._gates, self._classes)

    @property
    def newest(self) -> Window:
        """The last one that is full; the one that is being filled until there is one."""
        return self.finished[-1] if self.finished else self.current

    @property
    def score(self) -> float | None:
        """The evidence for drift over its limit; above 1 it is drift.

        The lesser of the last two windows', for one may be chance; ``None`` until there are two.
        """
        if len(self.finished) < 2:
            return None
        return min(self.score_of(window) for window in self.finished)

    def score_of(self, window: Window) -> float:
        """The largest evidence of any gate over the limit."""
        return float(np.abs(self.evidence(window)).max(initial=0.0)) / self.limit

    def evidence(self, window: Window) -> Doubles:
        """``(G,)``: how far a window's gates are off, in standard errors; not of an empty one."""
        return window.evidence(self.population.uncertainty(window.mix))

    def add(self, gates: Floats, logits: Floats, classes: Classes, now: float) -> None:
        """Count N images.

        Args:
            gates: ``(N, G)``.
            logits: the same as logits.
            classes: ``(N,)``, the predicted ones.
            now: Unix time.
        """
        new = self._repeats.sort_out(gates)
        classes = classes[new]
        residuals = self.population.residuals(logits[new], classes)
        size = self.size // BLOCKS
        while len(residuals):
            room = size - self._block.images
            self._fill_block(residuals[:room], classes[:room], now)
            residuals, classes = residuals[room:], classes[room:]
            if self._block.images == size:
                self._finish_block()

    def _fill_block(self, residuals: Floats, classes: Classes, now: float) -> None:
        block = self._block
        block.began, block.ended = block.began or now, now
        block.images += len(residuals)
        block.sums += residuals.sum(axis=0, dtype=np.float64)
        block.classes += np.bincount(classes, minlength=self._classes)

    def _finish_block(self) -> None:
        block, self._block = self._block, self._empty()
        block.blocks, block.squares = 1, np.square(block.sums)
        self.counted += block.images
        self.current.merge(block)
        if self.current.blocks >= BLOCKS:
            self.finished.append(self.current)
            self._begin()

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """All that is counted: values for JSON, and arrays."""
        windows = [*self.finished, self.current, self._block]
        names = ("images", "blocks", "began", "ended")
        meta: dict[str, Any] = {"counted": self.counted}
        meta["windows"] = [[getattr(window, name) for name in names] for window in windows]
        arrays: Arrays = {
            name: np.stack([getattr(window, name) for window in windows])
            for name in ("sums", "squares", "classes")
        }
        return meta, arrays | {"sketches": self._repeats.seen}

    def take_over(self, meta: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on with what a predecessor has counted, as :meth:`state` told it."""
        vectors = zip(arrays["sums"], arrays["squares"], arrays["classes"], strict=True)
        *finished, current, block = (
            Window(images, blocks, sums.copy(), squares.copy(), classes.copy(), began, ended)
            for (images, blocks, began, ended), (sums, squares, classes) in zip(
                meta["windows"], vectors, strict=True
            )
        )
        self.counted += meta["counted"]
        if not self.finished:  # else what it has begun lies too far back to be gone on with
            self.current.merge(current)
            self._block.merge(block)
            self._repeats.seen = np.concatenate([arrays["sketches"], self._repeats.seen])
        self.finished.extendleft(reversed(finished))
        if self._block.images >= self.size // BLOCKS:
            self._finish_block()


def calibrate_limit(residuals: Floats, groups: Classes, repeats: float) -> float:
    """The evidence that windows without drift do not reach.

    Halves the reference's images again and again and compares the halves; and never less than what
    chance makes of so many gates, for the images may be few.

    Args:
        residuals: ``(N, G)``, of the reference's images, in deviations.
        groups: ``(N,)``: images with the same number stay together.
        repeats: the images' design effect.
    """
    gates = residuals.shape[1]
    chance = NormalDist().inv_cdf(1 - FALSE_ALARMS / max(1, gates) / 2)
    _, numbers = np.unique(groups, return_inverse=True)
    count = int(numbers.max()) + 1
    sums, sizes = sums_by(residuals, numbers, count), np.bincount(numbers)
    halves = np.random.default_rng(0).permuted(
        np.tile(np.arange(count) % 2 == 0, (SPLITS, 1)), axis=1
    )
    first, total = halves @ sums, sums.sum(axis=0)
    images = (halves @ sizes)[:, None]
    rest = len(residuals) - images
    apart = first / images - (total - first) / rest
    error = np.sqrt(repeats * (1 / images + 1 / rest))
    seen = np.quantile(np.abs(apart / error).max(axis=1, initial=0.0), QUANTILE)
    return max(chance, float(seen))

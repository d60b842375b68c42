"""What the gates of many images look like together, class by class, and how far others are from it.

Gates are compared as logits, in which they are nearer to normal, and by class: the mean of the
*predicted* class is taken away first, so that other shares of the classes move nothing. What is
left is a residual, in deviations of the gate within its class.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

LOGIT_LIMIT = 14.0
"""Logits are cut here, either way: a gate beyond one in a million says no more than one at it."""

LEAST_SCALE = 0.05
"""Of the median deviation: the least that a gate has, so that one which hardly ever moves cannot
shout down all others."""

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Classes = npt.NDArray[np.integer]

_LEAST, _MOST = (np.float32(1 / (1 + np.exp(sign * LOGIT_LIMIT))) for sign in (1, -1))


def as_logits(gates: npt.NDArray[np.floating]) -> Floats:
    """Gates in (0, 1), of any shape, as logits between ``-LOGIT_LIMIT`` and ``LOGIT_LIMIT``."""
    inside = np.clip(gates, _LEAST, _MOST, dtype=np.float32)
    logits: Floats = np.log(inside / (1 - inside))
    return logits


def as_gates(logits: npt.NDArray[np.floating]) -> Doubles:
    """The inverse of :func:`as_logits`."""
    gates: Doubles = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return gates


@dataclass(frozen=True)
class Population:
    """The gates of a reference's images.

    Attributes:
        counts: ``(C,)``, images by predicted class.
        centre: ``(G,)``, mean logit of each gate over all classes.
        scale: ``(G,)``, deviation of each gate's logit within a class.
        offsets: ``(C, G)`` float16, by how much a class's mean is off the centre, in deviations;
            shrunk towards 0 by how little is known of the class.
        repeats: how many images say as much as one independent image: 1, or more where images come
            in groups that are alike (the design effect of survey statistics).
        shrinkage: independent images of a class that would say as much of its mean as the other
            classes' means do (empirical Bayes: the variance within over that between classes).
    """

    counts: npt.NDArray[np.int64]
    centre: Floats
    scale: Floats
    offsets: npt.NDArray[np.float16]
    repeats: float = 1.0
    shrinkage: float = 1.0

    @classmethod
    def measure(cls, logits: Floats, classes: Classes, count: int, groups: Classes) -> Self:
        """The population of N images.

        Args:
            logits: ``(N, G)``, as :func:`as_logits` makes them.
            classes: ``(N,)``, the predicted ones.
            count: of the network's classes, C.
            groups: ``(N,)``: images with the same number are not independent of each other.
        """
        counts = np.bincount(classes, minlength=count)
        centre = logits.mean(axis=0, dtype=np.float64)
        means = sums_by(logits - centre, classes, count) / np.maximum(counts, 1)[:, None]
        residuals = logits - centre - means[classes]
        freedom = max(1, len(logits) - np.count_nonzero(counts))
        deviation = np.sqrt(np.square(residuals).sum(axis=0) / freedom)
        # A gate that no image moves has the scale of a logit, and no residual.
        scale = np.maximum(deviation, LEAST_SCALE * np.median(deviation) or 1.0)
        offsets, residuals = means / scale, residuals / scale
        repeats = design_effect(residuals, groups)
        independent = counts / repeats
        # How far the classes' true means lie apart: what their measured ones do, less chance.
        seen = (counts[:, None] * np.square(offsets)).sum(axis=0) / len(logits)
        between = np.maximum(seen - np.count_nonzero(counts) / independent.sum(), 1e-6)
        shrinkage = float(np.median(1 / between))
        shrunk = offsets * (independent / (independent + shrinkage))[:, None]
        return cls(
            counts,
            centre.astype(np.float32),
            scale.astype(np.float32),
            shrunk.astype(np.float16),
            repeats,
            shrinkage,
        )

    @property
    def images(self) -> int:
        """How many there were."""
        return int(self.counts.sum())

    @property
    def shares(self) -> Doubles:
        """``(C,)``: of all images, those of each predicted class."""
        shares: Doubles = self.counts / self.counts.sum()
        return shares

    def residuals(self, logits: Floats, classes: Classes) -> Floats:
        """``(N, G)``: how far gates lie from their predicted class's mean, in deviations."""
        residuals: Floats = (logits - self.centre) / self.scale - self.offsets[classes]
        return residuals

    def mean_logits(self, mix: Doubles) -> Doubles:
        """``(G,)``: what the mean logits of images would be whose classes have these shares."""
        means: Doubles = self.centre + self.scale * (mix @ self.offsets.astype(np.float64))
        return means

    def uncertainty(self, mix: Doubles) -> float:
        """Variance of what :meth:`mean_logits` says, in squared deviations."""
        independent = self.counts / self.repeats
        return float((np.square(mix) / (independent + self.shrinkage)).sum())


def sums_by(values: npt.NDArray[np.floating], keys: Classes, count: int) -> Doubles:
    """``(count, G)``: of the rows ``(N, G)`` of values, the sum of those with each key."""
    sums = np.zeros((count, values.shape[1]))
    order = np.argsort(keys, kind="stable")
    present, starts = np.unique(keys[order], return_index=True)
    sums[present] = np.add.reduceat(values[order], starts, axis=0, dtype=np.float64)
    return sums


def design_effect(residuals: npt.NDArray[np.floating], groups: Classes) -> float:
    """How many of the images say as much as one independent image; 1 at least.

    The variance of the groups' sums over what it would be if all images were independent; the
    median over the gates.

    Args:
        residuals: ``(N, G)``, of mean 0.
        groups: ``(N,)``.
    """
    _, numbers = np.unique(groups, return_inverse=True)
    sums = sums_by(residuals, numbers, int(numbers.max()) + 1)
    alone = np.square(residuals).sum(axis=0, dtype=np.float64)
    moved = alone > 0
    if not moved.any():
        return 1.0
    together = np.square(sums).sum(axis=0)
    return max(1.0, float(np.median(together[moved] / alone[moved])))

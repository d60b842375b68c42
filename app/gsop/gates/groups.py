"""What the gates of groups of images have in common, and what tells the groups apart.

Plain sums are kept, so any number of images takes the same memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gsop.gates.population import sums_by

Doubles = npt.NDArray[np.float64]

CLOSED, OPEN = 0.1, 0.9
"""A gate that is never above the first never opens; one that is never below the other never
closes."""

UNMOVED = 1e-12
"""Variance below which a gate counts as the same for all images."""


@dataclass
class Groups:
    """Gates by group.

    Attributes:
        names: of the groups, K.
        counts: ``(K,)``, images of each.
        sums: ``(K, G)``, of the gates.
        squares: ``(G,)``, of the gates of all images.
        low: ``(G,)``, the least of all images.
        high: ``(G,)``, the greatest.
    """

    names: tuple[str, ...]
    counts: npt.NDArray[np.int64]
    sums: Doubles
    squares: Doubles
    low: Doubles
    high: Doubles

    @classmethod
    def empty(cls, names: Sequence[str], size: int) -> "Groups":
        """No image yet, of gates with ``size`` numbers."""
        count = len(names)
        return cls(
            tuple(names),
            np.zeros(count, np.int64),
            np.zeros((count, size)),
            np.zeros(size),
            np.full(size, np.inf),
            np.full(size, -np.inf),
        )

    def add(self, gates: npt.NDArray[np.floating], groups: npt.NDArray[np.integer]) -> None:
        """Count the gates ``(N, G)`` of N images, N at least 1, with the group of each."""
        values = gates.astype(np.float64)
        self.counts += np.bincount(groups, minlength=len(self.names))
        self.sums += sums_by(values, groups, len(self.names))
        self.squares += np.square(values).sum(axis=0)
        np.minimum(self.low, values.min(axis=0), out=self.low)
        np.maximum(self.high, values.max(axis=0), out=self.high)

    @property
    def images(self) -> int:
        """In all groups."""
        return int(self.counts.sum())

    def present(self) -> list[int]:
        """The groups that have images."""
        found: list[int] = np.flatnonzero(self.counts).tolist()
        return found

    @property
    def mean(self) -> Doubles:
        """``(G,)``, over all images."""
        mean: Doubles = self.sums.sum(axis=0) / self.images
        return mean

    @property
    def means(self) -> Doubles:
        """``(K, G)``; NaN for a group without images."""
        with np.errstate(invalid="ignore", divide="ignore"):
            means: Doubles = self.sums / self.counts[:, None]
        return means

    @property
    def variance(self) -> Doubles:
        """``(G,)``, over all images."""
        variance: Doubles = np.maximum(self.squares / self.images - np.square(self.mean), 0)
        return variance

    @property
    def separation(self) -> Doubles:
        """``(G,)``: the share of a gate's variance that lies between the groups, 0 to 1 (η²).

        0 says that a gate does the same in all groups, 1 that the group alone decides it.
        """
        there = self.present()
        shares = self.counts[there] / self.images
        between = (shares[:, None] * np.square(self.means[there] - self.mean)).sum(axis=0)
        variance = self.variance
        moved = variance > UNMOVED
        separation = np.divide(between, variance, out=np.zeros_like(between), where=moved)
        bounded: Doubles = np.minimum(separation, 1)
        return bounded

    @property
    def never_open(self) -> npt.NDArray[np.bool_]:
        """``(G,)``: which gates no image opens."""
        return np.asarray(self.high < CLOSED)

    @property
    def never_closed(self) -> npt.NDArray[np.bool_]:
        """``(G,)``: which gates no image closes."""
        return np.asarray(self.low > OPEN)

    def difference(self, other: "Groups") -> Doubles:
        """``(G,)``: by how many standard deviations the other's mean gates are higher (Cohen's d).

        Args:
            other: of the same gates, other images or another version.
        """
        spread = np.sqrt((self.variance + other.variance) / 2)
        apart = other.mean - self.mean
        moved = spread > UNMOVED**0.5
        difference: Doubles = np.divide(apart, spread, out=np.zeros_like(apart), where=moved)
        return difference


def strongest(values: Doubles, count: int) -> list[int]:
    """The places of the ``count`` numbers that are farthest from 0, from the farthest."""
    order: list[int] = np.argsort(-np.abs(values), kind="stable")[:count].tolist()
    return order

"""Count, mean, deviation and extremes of gates, over any number of predictions."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


@dataclass
class GateStatistics:
    """Count, mean, deviation and extremes of each element of the gates.

    Plain sums suffice: gates lie in (0, 1), so nothing cancels, and two engines' statistics add up
    to what one engine would have counted.

    Attributes:
        samples: predictions counted.
        sums: ``(4, G)`` float64: sum, sum of squares, least, greatest of each element.
    """

    samples: int
    sums: Vector

    @classmethod
    def empty(cls, size: int) -> Self:
        """No sample yet of gates with ``size`` numbers."""
        sums = np.zeros((4, size))
        sums[2], sums[3] = np.inf, -np.inf
        return cls(0, sums)

    def add(self, gates: npt.NDArray[np.float32]) -> None:
        """Count the gates ``(N, G)`` of N predictions."""
        values = gates.astype(np.float64)
        self.samples += len(values)
        self.sums[0] += values.sum(axis=0)
        self.sums[1] += np.square(values).sum(axis=0)
        np.minimum(self.sums[2], values.min(axis=0), out=self.sums[2])
        np.maximum(self.sums[3], values.max(axis=0), out=self.sums[3])

    def merge(self, other: Self) -> None:
        """Count what another engine counted."""
        self.samples += other.samples
        self.sums[:2] += other.sums[:2]
        np.minimum(self.sums[2], other.sums[2], out=self.sums[2])
        np.maximum(self.sums[3], other.sums[3], out=self.sums[3])

    @property
    def mean(self) -> Vector:
        """``(G,)``; at least one sample is needed."""
        mean: Vector = self.sums[0] / self.samples
        return mean

    @property
    def std(self) -> Vector:
        """Standard deviation of the population, ``(G,)``."""
        variance = self.sums[1] / self.samples - np.square(self.mean)
        std: Vector = np.sqrt(np.maximum(variance, 0))
        return std

    @property
    def low(self) -> Vector:
        """Least value seen, ``(G,)``."""
        low: Vector = self.sums[2]
        return low

    @property
    def high(self) -> Vector:
        """Greatest value seen, ``(G,)``."""
        high: Vector = self.sums[3]
        return high

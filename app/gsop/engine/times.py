"""How long batches take: learned from those that were, while the engine runs.

A device takes about a·n + b for n images, but not quite: a batch of one is often dearer, and CUDA
graphs go in steps. So a size that was seen often enough is expected to take what it took, and any
other what the line through all of them says. Deadlines and ``GSOP_TARGET_LATENCY_MS`` both ask here
(docs/performance.md has what the alternatives were worth).
"""

from collections import deque
from statistics import median

KEPT = 15
"""Newest durations of each batch size that count. Their median is not moved by a few outliers: a
batch that another process held up, or the first of its size."""

KNOWN = 3
"""Batches after which a size is believed rather than the line."""


class BatchTimes:
    """The durations of one model's batches on one device.

    Attributes:
        image: seconds for each image, by the line.
        fixed: seconds for a batch, whatever its size, by the line.
    """

    def __init__(self) -> None:
        self._seen: dict[int, deque[float]] = {}
        self._medians: dict[int, float] = {}
        self.image = 0.0
        self.fixed = 0.0

    def learn(self, size: int, seconds: float) -> None:
        """Take in how long the device took for a batch."""
        seen = self._seen.setdefault(size, deque(maxlen=KEPT))
        seen.append(seconds)
        self._medians[size] = median(seen)
        self._fit()

    def expect(self, size: int) -> float:
        """Seconds that a batch of ``size`` images will take; 0 while nothing is known."""
        if len(self._seen.get(size, ())) >= KNOWN:
            return self._medians[size]
        return self.fixed + self.image * size

    def largest(self, seconds: float, most: int) -> int:
        """The most images, 1 to ``most``, whose batch is expected to take at most ``seconds``."""
        return next((size for size in range(most, 1, -1) if self.expect(size) <= seconds), 1)

    def _fit(self) -> None:
        """The line through the medians of each size, by least squares."""
        weights = {size: len(seen) for size, seen in self._seen.items()}
        total = sum(weights.values())
        mean_size = sum(size * weight for size, weight in weights.items()) / total
        mean_time = sum(self._medians[size] * weight for size, weight in weights.items()) / total
        spread = sum(weight * (size - mean_size) ** 2 for size, weight in weights.items())
        slope = 0.0
        if spread:
            slope = (
                sum(
                    weight * (size - mean_size) * (self._medians[size] - mean_time)
                    for size, weight in weights.items()
                )
                / spread
            )
        # Of one size alone, or of times that fall with size: all of it is the images'. A batch
        # that is thought to cost more than it does is small; that shows, and mends the fit.
        if slope <= 0 or slope * mean_size > mean_time:
            slope = mean_time / mean_size
        self.image, self.fixed = slope, mean_time - slope * mean_size

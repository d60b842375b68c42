"""What a batch costs: a fixed time and a time for each image, fitted while the engine runs.

A device takes about a·n + b for n images. With both known, a batch can be bounded by time instead
of by number (``GSOP_TARGET_LATENCY_MS``).
"""

from collections import deque
from statistics import median

KEPT = 15
"""Newest durations of each batch size that count. Their median is not moved by a few outliers: a
batch that another process held up, or the first of its size."""


class BatchCost:
    """The line through the medians of each batch size, by least squares."""

    def __init__(self) -> None:
        self._seen: dict[int, deque[float]] = {}
        self._medians: dict[int, float] = {}
        self.image = 0.0
        self.fixed = 0.0

    @property
    def known(self) -> bool:
        """Whether any batch was seen."""
        return bool(self._medians)

    def learn(self, size: int, seconds: float) -> None:
        """Take in how long a batch took."""
        seen = self._seen.setdefault(size, deque(maxlen=KEPT))
        seen.append(seconds)
        self._medians[size] = median(seen)
        self._fit()

    def expect(self, size: int) -> float:
        """Seconds that a batch of ``size`` images will take; 0 while nothing is known."""
        return self.fixed + self.image * size

    def largest(self, seconds: float, most: int) -> int:
        """The most images, 1 to ``most``, whose batch is expected to take at most ``seconds``."""
        if self.expect(most) <= seconds:
            return most
        if self.image <= 0:
            return 1
        return max(1, min(most, int((seconds - self.fixed) / self.image)))

    def _fit(self) -> None:
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

"""Shares with their intervals, and whether one model is better than another by more than chance."""

from dataclasses import dataclass
from functools import cached_property
from math import comb, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
"""How often an interval holds what it is an interval for."""

Z = NormalDist().inv_cdf((1 + LEVEL) / 2)

RESAMPLED = 2000
"""Times that counts are drawn anew, for an interval of what is no plain share."""


@dataclass(frozen=True)
class Rate:
    """A share of images.

    Attributes:
        hits: images that count.
        of: images.
    """

    hits: int
    of: int

    @property
    def share(self) -> float:
        """0 to 1; not a number of no images."""
        return self.hits / self.of if self.of else float("nan")

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Wilson's (1927), at :data:`LEVEL`: it holds for few images and extreme shares too."""
        if not self.of:
            return 0.0, 1.0
        centre = self.share + Z**2 / (2 * self.of)
        spread = Z * sqrt(self.share * (1 - self.share) / self.of + (Z / (2 * self.of)) ** 2)
        whole = 1 + Z**2 / self.of
        return max(0.0, (centre - spread) / whole), min(1.0, (centre + spread) / whole)

    def __str__(self) -> str:
        if not self.of:
            return "-"
        low, high = self.interval
        return f"{self.share:.2%} ({low:.1%} to {high:.1%})"

    def facts(self) -> dict[str, Any]:
        """As JSON values."""
        share = self.share if self.of else None
        return {"share": share, "low": self.interval[0], "high": self.interval[1], "of": self.of}


def f1_interval(true: int, missed: int, false: int) -> tuple[float, float]:
    """The F1 score's interval at :data:`LEVEL`, from counts that are drawn anew.

    Args:
        true: images of the class that were found.
        missed: that were not.
        false: images of other classes that were taken for it.
    """
    counts = np.array([true, missed, false], np.float64)
    total = int(counts.sum())
    if not total:
        return 0.0, 1.0
    # Half an image more of each: of a class without an error others may have one.
    drawn = np.random.default_rng(0).multinomial(
        total, (counts + 0.5) / (counts.sum() + 1.5), RESAMPLED
    )
    scores = 2 * drawn[:, 0] / np.maximum(2 * drawn[:, 0] + drawn[:, 1] + drawn[:, 2], 1)
    low, high = np.quantile(scores, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Paired:
    """Two models on the same images.

    Attributes:
        both: images that both name right.
        first: that only the first does.
        second: that only the second does.
        neither: that neither does.
    """

    both: int
    first: int
    second: int
    neither: int

    @classmethod
    def of(cls, first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> "Paired":
        """Count them; each (N,), of the same images in the same order."""
        return cls(
            both=int((first & second).sum()),
            first=int((first & ~second).sum()),
            second=int((~first & second).sum()),
            neither=int((~first & ~second).sum()),
        )

    @property
    def images(self) -> int:
        """All of them."""
        return self.both + self.first + self.second + self.neither

    @property
    def difference(self) -> float:
        """The first's share that is right less the second's."""
        return (self.first - self.second) / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Of the difference, at :data:`LEVEL` (Agresti and Min, 2005: half an image more each)."""
        images, first, second = self.images + 2, self.first + 0.5, self.second + 0.5
        centre = (first - second) / images
        spread = Z * sqrt((first + second) / images - centre**2) / sqrt(images)
        return max(-1.0, centre - spread), min(1.0, centre + spread)

    @cached_property
    def p_value(self) -> float:
        """How often chance alone makes them differ so much: McNemar's test, the exact form."""
        apart, fewer = self.first + self.second, min(self.first, self.second)
        as_few: int = sum(comb(apart, n) for n in range(fewer + 1))
        share: float = 2 * as_few / (1 << apart)
        return min(1.0, share)

    @property
    def is_more_than_chance(self) -> bool:
        """At :data:`LEVEL`."""
        return self.p_value < 1 - LEVEL

    def facts(self) -> dict[str, Any]:
        """As JSON values."""
        low, high = self.interval
        return {
            "both_right": self.both,
            "only_this": self.first,
            "only_other": self.second,
            "neither": self.neither,
            "difference": {"share": self.difference, "low": low, "high": high},
            "mcnemar_p": self.p_value,
            "more_than_chance": self.is_more_than_chance,
        }

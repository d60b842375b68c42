"""Whether a canary does worse than the stable version. Policy alone: no clock, no shared memory.

It is asked again and again while requests come in, so it must not ask "is it worse *now*?": a rule
like "twice the stable version's errors" takes healthy versions back in half of all rollouts, once
it has looked often enough. A sequential likelihood ratio (Wald 1945) may be looked at after each
request: where the canary fails no more often than the stable version, it ever reaches :data:`LIMIT`
with a probability of at most 1 / :data:`LIMIT`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

LIMIT = 1000.0
"""How much likelier "worse" must be than "as good"."""

WORSE = 0.02
"""What "worse" means: so many failures more in each request. Less than half of a point is beyond
the power of this test: that is to be judged offline."""

FLOOR = 0.001
"""A stable version that never failed is still expected to, this often."""

MOST_DEATHS = 2
"""Engines that may die while they compute batches of the canary."""

SLOWER = 1.5
"""Times the stable version's 95th percentile on the device..."""

WINDOW = 200
"""...in each of :data:`WINDOWS` windows of at least so many answers of both..."""

WINDOWS = 3
"""...one after the other."""

Reason = Literal["failures", "deaths", "latency", "drift"]


class Seen(NamedTuple):
    """What one version did since the comparison began.

    Attributes:
        answered: images, failed ones included.
        failed: of them by fault of the version.
        deaths: engines that died on its batches.
        buckets: answers by their time on the device, as in the histogram's buckets.
        drift: its gates' distance from the reference that it brings, over the limit; ``None`` if it
            brings none, or has not answered enough images.
    """

    answered: int
    failed: int
    deaths: int
    buckets: npt.NDArray[np.float64]
    drift: float | None = None


@dataclass(frozen=True)
class Verdict:
    """Why a canary is worse: a word to count it by, and a sentence."""

    reason: Reason
    text: str


class Judge:
    """Watches one canary beside its stable version.

    Args:
        bounds: upper bounds of the histogram's buckets, in seconds, without infinity.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._window: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None
        self._slow = 0

    def look(self, stable: Seen, canary: Seen) -> Verdict | None:
        """Why the canary is worse, if it is, by all that was seen until now."""
        return (
            self._by_failures(stable, canary)
            or self._by_deaths(canary)
            or self._by_latency(stable, canary)
            or self._by_drift(stable, canary)
        )

    @staticmethod
    def _by_failures(stable: Seen, canary: Seen) -> Verdict | None:
        if log_ratio(stable, canary) < log(LIMIT):
            return None
        return Verdict(
            "failures",
            f"{canary.failed} of {canary.answered} images failed, where the stable version failed "
            f"on {stable.failed} of {stable.answered}",
        )

    @staticmethod
    def _by_deaths(canary: Seen) -> Verdict | None:
        if canary.deaths < MOST_DEATHS:
            return None
        return Verdict("deaths", f"{canary.deaths} engines died while they computed its batches")

    def _by_latency(self, stable: Seen, canary: Seen) -> Verdict | None:
        if self._window is None:
            self._window = stable.buckets, canary.buckets
        usual, its = stable.buckets - self._window[0], canary.buckets - self._window[1]
        if min(usual.sum(), its.sum()) < WINDOW:
            return None
        self._window = stable.buckets, canary.buckets
        usual_p95, its_p95 = (quantile(b, self._bounds, 0.95) for b in (usual, its))
        self._slow = self._slow + 1 if its_p95 > SLOWER * usual_p95 else 0
        if self._slow < WINDOWS:
            return None
        return Verdict(
            "latency",
            f"95 of 100 images take up to {its_p95 * 1000:.1f} ms on the device, where the stable "
            f"version takes {usual_p95 * 1000:.1f} ms, in {WINDOWS} windows one after the other",
        )

    @staticmethod
    def _by_drift(stable: Seen, canary: Seen) -> Verdict | None:
        if canary.drift is None or canary.drift <= 1:
            return None
        if stable.drift is None or stable.drift > 1:
            return None  # the images have changed, not the version; or may have
        return Verdict(
            "drift", "its gates are not those of its reference; the stable version's are"
        )


def log_ratio(stable: Seen, canary: Seen) -> float:
    """How much likelier the canary's failures are if it is worse than if it is not: a logarithm.

    The stable version's rate is taken for higher than was seen, by as many standard errors as the
    canary is better known than it: else a canary that gets most of the requests would be measured
    by a rate that is hardly known.
    """
    if not stable.answered or not canary.answered:
        return 0.0
    doubt = sqrt(canary.answered / stable.answered)
    usual = max(FLOOR, wilson(stable.failed, stable.answered, doubt)[1])
    worse = usual + WORSE
    if worse >= 1:
        return 0.0
    passed = canary.answered - canary.failed
    return canary.failed * log(worse / usual) + passed * log((1 - worse) / (1 - usual))


def wilson(hits: float, count: float, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a rate (Wilson 1927); ``count`` must be above 0."""
    rate = hits / count
    middle = rate + z * z / (2 * count)
    half = z * sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    whole = 1 + z * z / count
    return max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole)


def quantile(buckets: npt.NDArray[np.float64], bounds: Sequence[float], share: float) -> float:
    """A quantile of what a histogram counted, between its bounds as on a line.

    Args:
        buckets: counts, the last of what is above all bounds.
        bounds: upper bounds.
        share: 0 to 1.
    """
    wanted = share * buckets.sum()
    below = 0.0
    for index, upper in enumerate(bounds):
        count = float(buckets[index])
        if below + count >= wanted:
            lower = bounds[index - 1] if index else 0.0
            return lower + (upper - lower) * ((wanted - below) / count if count else 0.0)
        below += count
    return bounds[-1]

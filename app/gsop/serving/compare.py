"""What two versions did beside each other, as figures with their intervals."""

from math import sqrt
from typing import Literal

from gsop.arena.comparisons import Comparison
from gsop.arena.families import SECONDS
from gsop.serving.judge import Seen, quantile, wilson
from gsop.serving.status import ComparisonReport, Estimate, Side

SURE = 1.96
"""Standard errors to each side that hold with 95 % confidence."""


def side(version: str, seen: Seen, seconds: float | None) -> Side:
    """What one version did.

    Args:
        version: its name.
        seen: what it did.
        seconds: mean time from an image's submission to its answer.
    """
    timed = seen.buckets.sum()
    return Side(
        version=version,
        answered=seen.answered,
        failures=seen.failed,
        failure_rate=share(seen.failed, seen.answered),
        seconds=seconds,
        p95_seconds=quantile(seen.buckets, SECONDS, 0.95) if timed else None,
        engine_deaths=seen.deaths,
    )


def report(
    *,
    run: int,
    since: float,
    stable: Side,
    other: Side,
    role: Literal["canary", "shadow"],
    pairs: Comparison,
    verdict: str | None,
) -> ComparisonReport:
    """Both sides, and what was found on the images that both have answered."""
    return ComparisonReport(
        run=run,
        since=since,
        stable=stable,
        other=other,
        role=role,
        pairs=int(pairs.samples),
        agreement=share(pairs.agreed, pairs.samples),
        probability_change=mean(pairs.moved, pairs.moved_squared, pairs.samples),
        gate_distance=mean(pairs.distance, pairs.distance_squared, pairs.gates),
        verdict=verdict,
    )


def share(hits: float, count: float) -> Estimate | None:
    """A rate and its interval; ``None`` of nothing."""
    if not count:
        return None
    low, high = wilson(hits, count, SURE)
    return Estimate(value=hits / count, low=low, high=high)


def mean(total: float, squares: float, count: float) -> Estimate | None:
    """A mean and its interval, of values that are not negative; ``None`` of nothing."""
    if not count:
        return None
    value = total / count
    variance = max(0.0, squares / count - value * value)
    half = SURE * sqrt(variance / count)
    return Estimate(value=value, low=max(0.0, value - half), high=value + half)

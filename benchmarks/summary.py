"""Rounds to figures: medians, their spread, and tables."""

import math
import statistics
from collections.abc import Sequence


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that ``percent`` of them do not exceed (nearest rank); NaN for none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def spread(values: Sequence[float]) -> float:
    """Greatest minus least, over the median: 0 for rounds that agree."""
    median = statistics.median(values)
    return (max(values) - min(values)) / median if median else 0.0


def figure(values: Sequence[float], digits: int) -> str:
    """The median, and half the spread as its uncertainty: ``12.3 ±4%``."""
    return f"{statistics.median(values):.{digits}f} ±{50 * spread(values):.0f}%"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column is text, the others are numbers."""
    lines = [
        f"| {' | '.join(header)} |",
        f"| --- |{' ---: |' * (len(header) - 1)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    return "\n".join(lines)

"""Counters: each process adds to its own row, whoever reads adds the rows up.

No locks, and no number ever goes back: a row outlives its process, and goes on with the next one.
"""

from bisect import bisect_left

import numpy as np
import numpy.typing as npt

from gsop.arena.families import OTHER, STATUSES, Family, Ledger
from gsop.arena.layout import Arena

_STATUSES = frozenset(STATUSES)


class Meter:
    """A front's or an engine's hand on its row."""

    def __init__(self, arena: Arena) -> None:
        ledger = Ledger(arena.deployment.routes)
        self._row: npt.NDArray[np.float64] = arena.own("counters")
        self._places = ledger.places
        self._requests = ledger.requests
        self._routes = frozenset(arena.deployment.routes)

    def count(self, family: Family, *labels: str) -> None:
        """Add one."""
        self._row[self._places[family, labels]] += 1

    def observe(self, family: Family, value: float, *labels: str) -> None:
        """Add ``value`` to a histogram."""
        start = self._places[family, labels]
        self._row[start + bisect_left(family.buckets, value)] += 1
        self._row[start + len(family.buckets) + 1] += value

    def count_request(self, route: str, status: int) -> None:
        """Count one answered request; what is not known counts as ``other``."""
        text = str(status)
        self.count(
            self._requests,
            route if route in self._routes else OTHER,
            text if text in _STATUSES else OTHER,
        )


def totals(arena: Arena) -> npt.NDArray[np.float64]:
    """The sum of all rows."""
    summed: npt.NDArray[np.float64] = arena.view("counters").sum(axis=0)
    return summed

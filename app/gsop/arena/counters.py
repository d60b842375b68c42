"""Counters: each process adds to its own row, whoever reads adds the rows up.

No locks, and no number ever goes back: a row outlives its process, and goes on with the next one.
"""

from bisect import bisect_left

import numpy as np
import numpy.typing as npt

from gsop.arena.families import CLIENT_LEFT, OTHER, PLACE, STATUSES, Family, Ledger
from gsop.arena.service import ServiceMemory

_STATUSES = frozenset(STATUSES)


class Meter:
    """A front's or an engine's hand on its row."""

    def __init__(self, memory: ServiceMemory) -> None:
        ledger = Ledger.of(memory.plan.routes)
        self._row: npt.NDArray[np.float64] = memory.own("counters")
        self._places = ledger.places
        self._requests = ledger.requests
        self._request_seconds = ledger.request_seconds
        self._routes = frozenset(memory.plan.routes)

    def count(self, family: Family, *labels: str) -> None:
        """Add one."""
        self.add(family, 1, *labels)

    def add(self, family: Family, count: int, *labels: str) -> None:
        """Add ``count``."""
        self._row[self._places[family, labels]] += count

    def observe(self, family: Family, value: float, *labels: str) -> None:
        """Add ``value`` to a histogram."""
        start = self._places[family, labels]
        self._row[start + bisect_left(family.buckets, value)] += 1
        self._row[start + len(family.buckets) + 1] += value

    def observe_all(self, family: Family, values: npt.NDArray[np.float64], *labels: str) -> None:
        """Add several values to a histogram."""
        start, width = self._places[family, labels], len(family.buckets)
        places = np.searchsorted(family.buckets, values, side="left")
        self._row[start : start + width + 1] += np.bincount(places, minlength=width + 1)
        self._row[start + width + 1] += values.sum()

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request; what is not known counts as ``other``."""
        text, known = str(status), route if route in self._routes else OTHER
        self.count(self._requests, known, text if text in _STATUSES else OTHER)
        if status != CLIENT_LEFT:
            self.observe(self._request_seconds, seconds, known)


def totals(memory: ServiceMemory) -> npt.NDArray[np.float64]:
    """The sum of all rows, but for what was forgotten."""
    summed: npt.NDArray[np.float64] = memory.view("counters").sum(axis=0)
    summed -= memory.view("forgotten")
    return summed


def forget(memory: ServiceMemory, place: int) -> None:
    """Begin anew with what is counted for a version, as its place is another's from now on.

    The rows are not the supervisor's to write; it remembers what they were, and that is taken off.
    """
    forgotten, seen = memory.own("forgotten"), totals(memory)
    ledger = Ledger.of(memory.plan.routes)
    for (family, labels), at in ledger.places.items():
        if family.labels and family.labels[0][0] == PLACE and labels[0] == str(place):
            forgotten[at : at + family.width] += seen[at : at + family.width]

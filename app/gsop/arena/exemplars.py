"""For each bucket of the requests' times, the newest trace that fell into it.

Each front writes its own row; whoever reads takes the newest of all rows.
"""

import time
from bisect import bisect_left
from typing import NamedTuple

from gsop.arena.families import OTHER, Ledger
from gsop.arena.service import ServiceMemory


class Example(NamedTuple):
    """A trace that took so long, and when it ended (Unix seconds)."""

    trace: str
    seconds: float
    time: float


class Exemplars:
    """A front's hand on its row."""

    def __init__(self, memory: ServiceMemory) -> None:
        self._row = memory.own("exemplars")
        self._buckets = Ledger.of(memory.plan.routes).request_seconds.buckets
        self._routes = {route: at for at, route in enumerate((*memory.plan.routes, OTHER))}

    def keep(self, route: str, seconds: float, trace: str) -> None:
        """A request of that trace took so long."""
        at = self._routes.get(route, len(self._routes) - 1)
        place = at, bisect_left(self._buckets, seconds)
        self._row["time"][place] = 0  # so that nobody believes what is half written
        self._row["trace"][place] = trace.encode()
        self._row["seconds"][place] = seconds
        self._row["time"][place] = time.time()


def examples(memory: ServiceMemory) -> dict[tuple[str, int], Example]:
    """The newest of each route and bucket, if there is one."""
    rows = memory.view("exemplars")
    newest, found = rows["time"].argmax(axis=0), {}
    for at, route in enumerate((*memory.plan.routes, OTHER)):
        for bucket in range(rows.shape[2]):
            trace, seconds, when = rows[newest[at, bucket], at, bucket].item()
            if when:
                found[route, bucket] = Example(trace.decode(), seconds, when)
    return found

"""A queue in which clients take turns, each by what its work has cost.

Whoever has used least is next, so a client that sends costly work, or much, waits behind itself.
What is used is seconds of processes, and it halves every few seconds: a client is not held to what
it did long ago. Pure: no clock, no event loop.
"""

import math
from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

HALF_LIFE_SECONDS = 10.0
"""After which half of what a client has used is forgotten."""

DEAR_SECONDS = 0.1
"""A client whose images lately took longer than this is a dear one."""

MOST_CLIENTS = 4096
"""That are remembered; of more, those that used something longest ago are forgotten."""


DEARNESS_KEPT = 0.9
"""With each item that costs less, a client becomes so much cheaper."""


class _Used(NamedTuple):
    """What a client has used: seconds at a time, and the dearest item lately."""

    seconds: float
    then: float
    dearest: float


class Turns(Generic[T]):
    """Items that wait, by client; each item once."""

    def __init__(self) -> None:
        self._waiting: dict[str, OrderedDict[T, None]] = {}
        self._used: OrderedDict[str, _Used] = OrderedDict()

    def __len__(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    def add(self, client: str, item: T) -> None:
        """Let it wait behind its client's others."""
        self._waiting.setdefault(client, OrderedDict())[item] = None

    def put_back(self, client: str, item: T) -> None:
        """Let it wait before its client's others."""
        self.add(client, item)
        self._waiting[client].move_to_end(item, last=False)

    def discard(self, client: str, item: T) -> None:
        """It waits no more; nothing happens if it does not."""
        items = self._waiting.get(client)
        if items is not None:
            items.pop(item, None)
            if not items:
                del self._waiting[client]

    def next(self, now: float, *, cheap: bool = False) -> tuple[str, T] | None:
        """Take the next one, and say whose it is; ``None`` if none waits.

        Args:
            now: monotonic seconds.
            cheap: leave out dear clients, and those of which nothing is known yet.
        """
        clients = [client for client in self._waiting if not (cheap and self.is_dear(client))]
        if not clients:
            return None
        client = min(clients, key=lambda client: self.used(client, now))
        item = next(iter(self._waiting[client]))
        self.discard(client, item)
        return client, item

    def charge(self, client: str, seconds: float, now: float) -> None:
        """Count what a client's work has cost."""
        known = self._used.get(client)
        dearest = seconds if known is None else max(seconds, known.dearest * DEARNESS_KEPT)
        self._used[client] = _Used(self.used(client, now) + seconds, now, dearest)
        self._used.move_to_end(client)
        if len(self._used) > MOST_CLIENTS:
            self._used.popitem(last=False)

    def used(self, client: str, now: float) -> float:
        """What a client has used lately, seconds."""
        if (known := self._used.get(client)) is None:
            return 0.0
        return known.seconds * math.exp2((known.then - now) / HALF_LIFE_SECONDS)

    def is_dear(self, client: str) -> bool:
        """Whether one item of a client's may take long; of an unknown one it may."""
        known = self._used.get(client)
        return known is None or known.dearest > DEAR_SECONDS

    def drain(self) -> list[T]:
        """All that wait; then none does."""
        items = [item for items in self._waiting.values() for item in items]
        self._waiting.clear()
        return items

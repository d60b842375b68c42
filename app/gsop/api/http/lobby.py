"""The connections of a front, and who must go when there are too many.

A connection is *waiting* (for a head: idle, or a head that comes slowly), *slow* (its body has not
come whole, or its client has not read the answer) or *busy*. Whoever is busy stays. Of the others,
the client with the most connections loses one first; of its own the one that waits longest, then
what is furthest behind. So a crowd of idle, dripping or deaf connections keeps nobody out.
"""

import heapq
from collections import Counter
from typing import Protocol

WAITING, SLOW, BUSY = range(3)
"""What a connection is doing, the most dispensable first."""


class Guest(Protocol):
    """A connection, as the lobby sees it."""

    client_name: str
    """Whose it is, by :func:`gsop.serving.clients.client_of`."""

    @property
    def stage(self) -> int:
        """:data:`WAITING`, :data:`SLOW` or :data:`BUSY`."""

    @property
    def stage_since(self) -> float:
        """When that began, monotonic seconds; a body's bytes move it on."""

    def abort(self) -> None:
        """Close at once."""


MANY = 32
"""So many are ranked to go at once: to look at all connections for each new one would cost more
than to take it in."""


class Lobby:
    """All connections of a process."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._guests: dict[Guest, None] = {}
        self._of_client: Counter[str] = Counter()
        self._next_to_go: list[Guest] = []

    def enter(self, newcomer: Guest) -> None:
        """Take a connection in; if there are too many now, the most dispensable one goes."""
        if len(self._guests) >= self.capacity:
            (self._most_dispensable() or newcomer).abort()
        self._guests[newcomer] = None
        self._of_client[newcomer.client_name] += 1

    def leave(self, guest: Guest) -> None:
        """A connection has ended, or is as good as that."""
        if guest in self._guests:
            del self._guests[guest]
            self._of_client[guest.client_name] -= 1
            if not self._of_client[guest.client_name]:
                del self._of_client[guest.client_name]

    def _most_dispensable(self) -> Guest | None:
        """``None`` if all are busy."""
        for _ in range(2):
            while self._next_to_go:
                guest = self._next_to_go.pop()
                if guest in self._guests and guest.stage != BUSY:
                    return guest
            idle = (guest for guest in self._guests if guest.stage != BUSY)
            self._next_to_go = heapq.nsmallest(MANY, idle, key=self._rank)[::-1]
        return None

    def _rank(self, guest: Guest) -> tuple[int, int, float]:
        return -self._of_client[guest.client_name], guest.stage, guest.stage_since

"""Rates of API keys that count for all instances together, by way of the store that they share.

A front holds each key to a rate that the supervisor tells it (:mod:`gsop.serving.callers`), and
counts how often the key was asked for, refusals included. Every second the supervisor adds what its
fronts have counted to what all have, and from the seconds before it says which part of the rate is
this instance's::

    gsop:asked:<second>      how often each key was asked for, by the key's digest

So nothing is asked while a request waits. A key that was not asked for lately has the whole rate at
each instance, until they have heard of each other: for two or three seconds. While the store is
away each instance has the whole rate, as without one.

The parts follow what is asked for, as in B. Raghavan et al., *Cloud Control with Distributed Rate
Limiting*, SIGCOMM 2007.
"""

import math
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gsop.arena.service import ServiceMemory
from gsop.serving.keyring import Keeper

if TYPE_CHECKING:
    from redis import Redis

WINDOWS = 3
"""Seconds that parts are made from: those before the one that is being counted."""

KEPT_SECONDS = 30
"""How long the store keeps a second; clocks of instances may differ by less."""


MOST_ASKED = 1e9
"""Requests of a key in a second; no instances count more, so a higher number was not theirs."""


def part(rate: float, own: float, others: float) -> float:
    """Requests a second that one instance may let through, of the key's ``rate``.

    Args:
        rate: of the key, over all instances.
        own: requests a second that it was asked for here, let through or not.
        others: the same, at all other instances.

    Returns:
        What the others leave; if together they ask for more than the rate, the share of it that
        ``own`` is of all, of at least one request a second: what is not asked for now may be soon.
    """
    own = max(own, 1.0)
    return min(rate, max(rate - others, rate * own / (own + others)))


class Rates:
    """Tells the fronts of one instance the parts. Of the supervisor's thread that shares.

    Args:
        memory: the service's, as the supervisor has it.
        keeper: knows the digests of keys.
        store: what instances share.
    """

    def __init__(self, memory: ServiceMemory, keeper: Keeper, store: "Redis") -> None:
        self._keeper, self._store = keeper, store
        self._asked = memory.view("key_asked")
        self._parts = memory.own("key_parts")
        self._rate = memory.settings.rate_per_key
        self._before: npt.NDArray[np.float64] = self._asked.sum(axis=0)
        self._told: deque[tuple[int, npt.NDArray[np.float64]]] = deque(maxlen=WINDOWS + 1)

    def exchange(self, now: float) -> None:
        """Tell what was asked for here since the last time, hear of all, and say the parts.

        Args:
            now: Unix time.

        Raises:
            redis.exceptions.RedisError: if the store does not answer. Then :meth:`stand_alone`.
        """
        second = math.floor(now)
        counts = self._asked.sum(axis=0)
        new, self._before = counts - self._before, counts
        if self._told and self._told[-1][0] == second:
            self._told[-1][1][:] += new
        else:
            self._told.append((second, new))
        pipe = self._store.pipeline(transaction=False)
        for number in np.flatnonzero(new).tolist():
            pipe.hincrbyfloat(_name(second), self._keeper.digest(number), float(new[number]))
        pipe.expire(_name(second), KEPT_SECONDS)
        past = [(at, seen) for at, seen in self._told if second - WINDOWS <= at < second]
        own = sum((seen for _, seen in past), np.zeros_like(counts)) / WINDOWS
        numbers = np.flatnonzero(sum((seen for _, seen in self._told), np.zeros_like(counts)))
        digests = [self._keeper.digest(number) for number in numbers.tolist()]
        if digests:
            for at in range(second - WINDOWS, second):
                pipe.hmget(_name(at), digests)
        answers = pipe.execute()[-WINDOWS:] if digests else []
        parts = np.zeros_like(counts)
        for place, number in enumerate(numbers.tolist()):
            total = sum(_count(answer[place]) for answer in answers) / WINDOWS
            parts[number] = part(self._rate, own[number], max(0.0, total - own[number]))
        self._parts[:] = parts

    def stand_alone(self) -> None:
        """Each key has the whole rate here."""
        self._parts[:] = 0


def _count(text: bytes | None) -> float:
    """How often a key was asked for; of what is no such number, never."""
    try:
        count = float(text or 0)
    except ValueError:
        return 0.0
    return count if 0 < count <= MOST_ASKED else 0.0


def _name(second: int) -> str:
    return f"gsop:asked:{second}"

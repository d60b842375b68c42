"""Who sends a request: a front's reading of its key, by the newest of what the service knows."""

import time
from datetime import UTC, datetime
from typing import NamedTuple, Self

from gsop.arena.bulletin import Bulletin
from gsop.arena.service import ServiceMemory
from gsop.errors import RateLimited, Unauthorized
from gsop.keys import ApiKey, Caller, recognise
from gsop.serving.keyring import Keyring

BURST_SECONDS = 2.0
"""What a key has not used of its rate, it may use later: of so many seconds at most."""

MOST_WAIT_SECONDS = 3600
"""Who is refused is told to come again by then, however small the key's part is here."""


class _Ring(NamedTuple):
    """The keys, and in the same order who has them."""

    keys: tuple[ApiKey, ...]
    callers: tuple[Caller, ...]

    @classmethod
    def parse(cls, text: bytes) -> Self:
        known = Keyring.parse(text).known
        return cls(tuple(each.key for each in known), tuple(each.caller for each in known))


class Callers:
    """Recognises callers, holds them to their rate, and remembers when each came last."""

    def __init__(self, memory: ServiceMemory) -> None:
        self._ring: Bulletin[_Ring] = Bulletin(memory.view("keys"), _Ring.parse)
        self._use = memory.own("key_use")
        # The kernel spreads a client's connections over the fronts, so is its rate.
        self._fronts = memory.settings.front_count
        self._rate = memory.settings.rate_per_key / self._fronts
        # Where it counts for all instances together: how often keys came, and what is ours of it.
        is_shared = memory.settings.rate_shared
        self._asked = memory.own("key_asked") if is_shared else None
        self._parts = memory.view("key_parts")
        self._tokens: dict[int, tuple[float, float]] = {}

    def admit(self, key: bytes) -> Caller:
        """Whose key it is.

        Raises:
            Unauthorized: if it is nobody's, or its last day has passed.
            RateLimited: if it has been used too often lately.
        """
        ring = self._ring.value
        number = recognise(ring.keys, key)
        if number is None:
            raise Unauthorized("the API key is not known; ask the operator for another")
        if ring.keys[number].is_over(datetime.now(UTC).date()):
            raise Unauthorized("the API key's last day has passed; ask the operator for another")
        caller = ring.callers[number]
        self._use[caller.number] = time.time()
        if self._rate:
            self._take(caller.number)
        return caller

    def _take(self, number: int) -> None:
        """A token of a bucket that fills by the rate."""
        rate = self._rate
        if self._asked is not None:
            self._asked[number] += 1
            rate = self._parts[number].item() / self._fronts or rate
        now, most = time.monotonic(), max(1.0, rate * BURST_SECONDS)
        tokens, then = self._tokens.get(number, (most, now))
        tokens = min(most, tokens + (now - then) * rate)
        if tokens < 1:
            self._tokens[number] = tokens, now
            raise RateLimited(
                "the key's rate is used up; send fewer requests a second",
                retry_after=max(1, min(MOST_WAIT_SECONDS, round((1 - tokens) / rate))),
            )
        self._tokens[number] = tokens - 1, now


def last_used(memory: ServiceMemory) -> list[tuple[str, float]]:
    """Each key's name, and when any front saw it last, seconds since 1970; unused ones not."""
    callers = Bulletin(memory.view("keys"), _Ring.parse).value.callers
    seen = memory.view("key_use").max(axis=0)
    return [(c.name, float(seen[c.number])) for c in callers if seen[c.number]]

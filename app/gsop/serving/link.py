"""One front's connection to one engine, and who waits behind it."""

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from gsop.arena.counters import RESENT, Meter
from gsop.arena.layout import Arena, EngineState
from gsop.arena.messages import (
    Decoder,
    Kind,
    connect,
    encode,
    encode_payload,
    unpack_reply,
)
from gsop.errors import DeadlineExceeded, EngineCrashed, NotReady

log = logging.getLogger("gsop.front")

MAX_CRASHES = 3
"""An image on which engines died this often is given up: the first time others were in its batch,
then it was alone. Once alone may be chance, if somebody kills engines; twice is not."""

RETRY_SECONDS = 0.2

_READY = EngineState.READY.value


class Waiter:
    """An image on its way through an engine.

    Attributes:
        slot, ticket: where it lies.
        future: resolves when the slot is finished.
        crashes: engines that died while they computed it.
        link: where it waits now.
    """

    __slots__ = ("crashes", "future", "link", "slot", "ticket")

    def __init__(self, slot: int, ticket: int, future: "asyncio.Future[None]") -> None:
        self.slot = slot
        self.ticket = ticket
        self.future = future
        self.crashes = 0
        self.link: EngineLink | None = None

    def finish(self) -> None:
        """The engine is done with the slot."""
        if not self.future.done():
            self.future.set_result(None)

    def fail(self, error: Exception) -> None:
        """There will be no answer."""
        if not self.future.done():
            self.future.set_exception(error)

    def expire(self) -> None:
        """The deadline has passed."""
        self.fail(DeadlineExceeded("the deadline passed before the answer was ready"))

    def leave(self) -> None:
        """Wait no longer."""
        if self.link is not None:
            self.link.waiting.pop(self.slot, None)


class EngineLink(asyncio.Protocol):
    """A connection that comes back by itself.

    Attributes:
        waiting: by slot, what the engine has not answered yet.
    """

    def __init__(
        self, arena: Arena, engine: int, meter: Meter, resend: Callable[[Waiter], None]
    ) -> None:
        self.waiting: dict[int, Waiter] = {}
        self._arena = arena
        self._states = arena.engines["state"]
        self._engine = engine
        self._meter = meter
        self._resend = resend
        self._transport: asyncio.WriteTransport | None = None
        self._decoder = Decoder()
        self._questions: dict[int, asyncio.Future[bytes]] = {}
        self._question_ids = itertools.count(1)
        self._closing = False
        self._opening: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the engine at the other end answers now."""
        return self._transport is not None and self._states.item(self._engine) == _READY

    async def open(self) -> None:
        """Connect, for as long as it takes."""
        address = self._arena.deployment.engine_address(self._engine)
        loop = asyncio.get_running_loop()
        while not self._closing:
            try:
                await loop.create_unix_connection(lambda: self, sock=connect(address))
            except OSError as error:
                log.error("engine %d cannot be reached: %s", self._engine, error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    def close(self) -> None:
        """Disconnect for good; whoever still waits learns that there is no engine."""
        self._closing = True
        if self._opening is not None:
            self._opening.cancel()
        if self._transport is not None:
            self._transport.close()
        for waiter in list(self.waiting.values()):
            waiter.fail(NotReady("the engine was stopped"))

    def send(self, waiter: Waiter) -> None:
        """Put an image behind this connection; without one, it goes out with the next."""
        waiter.link = self
        self.waiting[waiter.slot] = waiter
        if self._transport is not None:
            kind = Kind.INFER_ALONE if waiter.crashes else Kind.INFER
            self._transport.write(encode(kind, waiter.slot, waiter.ticket))

    async def ask(self, payload: bytes) -> tuple[dict[str, Any], npt.NDArray[np.float64]]:
        """Put a question of :mod:`gsop.gates.queries`.

        Raises:
            NotReady: if the engine is away, or goes away before it answers.
        """
        if self._transport is None:
            raise NotReady("the engine is being started")
        number = next(self._question_ids)
        future = asyncio.get_running_loop().create_future()
        self._questions[number] = future
        self._transport.write(encode_payload(Kind.QUERY, number, payload))
        try:
            return unpack_reply(await future)
        finally:
            del self._questions[number]

    # ── asyncio.Protocol ─────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send all that waits."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is no subclass
        self._decoder = Decoder()
        for waiter in list(self.waiting.values()):
            self.send(waiter)

    def data_received(self, data: bytes) -> None:
        """Wake whoever waits for what has arrived."""
        for kind, number, ticket, payload in self._decoder.feed(data):
            if kind == Kind.DONE:
                waiter = self.waiting.get(number)
                if waiter is not None and waiter.ticket == ticket:
                    waiter.finish()
            elif kind == Kind.REPLY and ticket in self._questions:
                future = self._questions[ticket]
                if not future.done():
                    future.set_result(payload)

    def connection_lost(self, error: Exception | None) -> None:
        """The engine died: find out what became of each slot, and connect to its successor."""
        self._transport = None
        for future in self._questions.values():
            if not future.done():
                future.set_exception(NotReady("the engine is being replaced"))
        if self._closing:
            return
        orphans, self.waiting = self.waiting, {}
        for waiter in orphans.values():
            self._settle(waiter)
        self._opening = asyncio.get_running_loop().create_task(self.open())

    def _settle(self, waiter: Waiter) -> None:
        """Decide about a slot whose engine died: answered, given up, or sent again."""
        if waiter.future.done():
            return
        fields = self._arena.fields
        if fields["done"][waiter.slot] == waiter.ticket:
            waiter.finish()
            return
        if fields["running"][waiter.slot] == waiter.ticket:
            waiter.crashes += 1
            fields["running"][waiter.slot] = 0
            if waiter.crashes >= MAX_CRASHES:
                waiter.fail(EngineCrashed("engines died on this image again and again"))
                return
        self._meter.count(RESENT)
        self._resend(waiter)

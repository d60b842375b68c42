"""One front's connection to one engine, and who waits behind it."""

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from gsop.arena.board import Board
from gsop.arena.counters import Meter
from gsop.arena.families import RESENT
from gsop.arena.messages import Decoder, Kind, connect, encode, encode_payload, unpack_reply
from gsop.arena.slot import FrontSlots
from gsop.errors import DeadlineExceeded, EngineCrashed, NotReady

log = logging.getLogger("gsop.front")

MAX_CRASHES = 3
"""An image on which engines died this often is given up: the first time others were in its batch,
then it was alone. Once alone may be chance, if somebody kills engines; twice is not."""

RETRY_SECONDS = 0.2


class Waiter:
    """An image on its way through an engine.

    Attributes:
        slot, ticket: where it lies, and for which request.
        future: resolves to the engine that has finished it.
        crashes: engines that died while they computed it.
        link: where it waits now.
    """

    __slots__ = ("crashes", "future", "link", "slot", "ticket")

    def __init__(self, slot: int, ticket: int, future: "asyncio.Future[int]") -> None:
        self.slot = slot
        self.ticket = ticket
        self.future = future
        self.crashes = 0
        self.link: EngineLink | None = None

    def finish(self, engine: int) -> None:
        """That engine is done with the slot."""
        if not self.future.done():
            self.future.set_result(engine)

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
        self,
        engine: int,
        address: str,
        *,
        slots: FrontSlots,
        board: Board,
        meter: Meter,
        resend: Callable[[Waiter], None],
        is_over: Callable[[], bool],
    ) -> None:
        self.waiting: dict[int, Waiter] = {}
        self._engine = engine
        self._address = address
        self._slots = slots
        self._board = board
        self._meter = meter
        self._resend = resend
        self._is_over = is_over
        self._transport: asyncio.WriteTransport | None = None
        self._decoder = Decoder()
        self._questions: dict[int, asyncio.Future[bytes]] = {}
        self._question_ids = itertools.count(1)
        self._closing = False
        self._opening: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the engine at the other end answers now."""
        return self._transport is not None and self._board.is_ready(self._engine)

    async def open(self) -> None:
        """Connect, for as long as it takes."""
        loop = asyncio.get_running_loop()
        while not self._closing:
            try:
                await loop.create_unix_connection(lambda: self, sock=connect(self._address))
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
            waiter.fail(NotReady("the engine was stopped; send the request again"))

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
                    waiter.finish(self._engine)
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
        if not self._closing and self._is_over():
            self.close()
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
        if self._slots.is_done(waiter.slot, waiter.ticket, self._engine):
            waiter.finish(self._engine)
            return
        if self._slots.has_begun(waiter.slot, waiter.ticket, self._engine):
            waiter.crashes += 1
            if waiter.crashes >= MAX_CRASHES:
                waiter.fail(EngineCrashed("engines died on this image again and again"))
                return
        waiter.ticket = self._slots.renew(waiter.slot)
        self._meter.count(RESENT)
        self._resend(waiter)

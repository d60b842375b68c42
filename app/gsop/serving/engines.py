"""The engines, as a front sees them: a slot for each image, an answer for each slot.

A front never queues more than its slots hold, and never loses what it sent: the pixels stay in the
slot until the answer is out, so when a connection ends because an engine died, everything that is
still waiting is sent again, to its successor or to another engine.
"""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from gsop.arena.board import Board
from gsop.arena.counters import Meter
from gsop.arena.families import SPAN_SECONDS
from gsop.arena.layout import Arena
from gsop.arena.slot import FrontSlots, Slot
from gsop.arena.states import Outcome
from gsop.errors import (
    ClientOverloaded,
    DeadlineExceeded,
    DeviceOutOfMemory,
    Draining,
    GSoPError,
    NonFiniteOutput,
    NotReady,
    Overloaded,
    UnknownModel,
    UnknownPrediction,
)
from gsop.gates.memory import Record
from gsop.gates.queries import RECENT, Query, RecordQuery, Reply, StatisticsQuery, ask
from gsop.gates.statistics import GateStatistics
from gsop.serving.link import EngineLink, Waiter
from gsop.store.manifest import Manifest

ASK_SECONDS = 10.0
"""How long a question about gates may wait behind a batch."""

_FAILURES: dict[int, tuple[type[GSoPError], str]] = {
    Outcome.EXPIRED: (DeadlineExceeded, "the image could not be answered before the deadline"),
    Outcome.NON_FINITE: (NonFiniteOutput, "the network's answer for this image is not finite"),
    Outcome.OUT_OF_MEMORY: (DeviceOutOfMemory, "the device has no memory left for this image"),
}


@dataclass(frozen=True)
class LoadedModel:
    """A model that the engines hold: its place in the deployment, and its manifest."""

    index: int
    manifest: Manifest


@dataclass(frozen=True)
class Inference:
    """The engine's answer for one image.

    Attributes:
        id: the prediction's public id; it cannot be guessed.
        values: the answer, ``(width,)`` float32, as the manifest's layout has it.
        queue_seconds: from submission to the start of its batch.
        inference_seconds: from the start of its batch to its end.
    """

    id: str
    values: npt.NDArray[np.float32]
    queue_seconds: float
    inference_seconds: float


@dataclass(frozen=True)
class Recent:
    """A line of the newest predictions; ``time`` is Unix time in seconds."""

    id: str
    time: float
    class_id: int
    probability: float


@dataclass(frozen=True)
class Statistics:
    """What ``GET /attention`` shows.

    Attributes:
        gates: the statistics.
        since: Unix time from which on they count.
        recent: the newest predictions, newest first.
    """

    gates: GateStatistics
    since: float
    recent: list[Recent]


class Engines:
    """Sends images to the engines and asks about gates. An asynchronous context manager.

    Attributes:
        board: what the processes tell of themselves.
        meter: the front's.
        models: those that are loaded, the default first.
    """

    def __init__(self, arena: Arena) -> None:
        settings = arena.deployment.settings
        self.board = Board(arena)
        self.meter = Meter(arena)
        self.models = [LoadedModel(i, m) for i, m in enumerate(arena.deployment.manifests)]
        self._slots = FrontSlots(arena)
        self._records_kept = settings.attention_records
        self._was_ready = False
        # A caller's connections are spread over the fronts by the kernel, so is its share.
        self._share = -(-settings.slots_per_client // arena.deployment.fronts)
        self._held: Counter[str] = Counter()
        self._links = [
            EngineLink(
                engine,
                arena.deployment.engine_address(engine),
                slots=self._slots,
                board=self.board,
                meter=self.meter,
                resend=self._send,
            )
            for engine in range(arena.deployment.engines)
        ]

    async def __aenter__(self) -> Self:
        for link in self._links:
            await link.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        for link in self._links:
            link.close()

    @property
    def capacity(self) -> int:
        """Images that this front can have in the service at once."""
        return self._slots.capacity

    def model(self, name: str | None, version: str | None) -> LoadedModel:
        """The loaded model of that name and version; without a name, the default.

        Raises:
            UnknownModel: if none is loaded.
        """
        if name is None and version is None:
            return self.models[0]
        wanted = name or self.models[0].manifest.name
        for model in self.models:
            if model.manifest.name == wanted and version in (None, model.manifest.version):
                return model
        loaded = ", ".join(f"{m.manifest.name}/{m.manifest.version}" for m in self.models)
        asked = wanted if version is None else f"{wanted}/{version}"
        raise UnknownModel(f"{asked} is not loaded; loaded: {loaded}")

    # ── images ───────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def acquire(
        self, model: LoadedModel, count: int = 1, caller: int = 0, sharer: str = ""
    ) -> Iterator[list[Slot]]:
        """Take ``count`` slots, all or none, and give them back at the end.

        Args:
            model: what the images are for.
            count: how many there are.
            caller: who may see their records later; 0 is nobody in particular.
            sharer: whose share of the slots they count to.

        Raises:
            Overloaded: if that many are not free.
            ClientOverloaded: if one would have more than its share.
            NotReady: if no engine has been ready yet.
            Draining: if the service is shutting down.
        """
        self.check_admission(count)
        if self._share and self._held[sharer] + count > self._share:
            raise ClientOverloaded(
                f"one client may have {self._share} images here at once; wait for answers before "
                "sending more"
            )
        slots = [self._slots.hold(model.index, caller) for _ in range(count)]
        self._held[sharer] += count
        try:
            yield slots
        finally:
            self._held[sharer] -= count
            if not self._held[sharer]:
                del self._held[sharer]
            for slot in slots:
                self._slots.release(slot)

    def check_admission(self, count: int = 1) -> None:
        """Whether ``count`` slots could be taken now.

        Raises:
            Overloaded: if that many are not free.
            NotReady: if no engine has been ready yet.
            Draining: if the service is shutting down.
        """
        if self.board.is_draining:
            raise Draining("the service is shutting down; send the request to another instance")
        if not self._was_ready:
            self._was_ready = self.board.was_ready
            if not self._was_ready:
                raise NotReady("the model is still being loaded", retry_after=2)
        if self._slots.free < count:
            raise Overloaded("every slot is taken; try again after the time in Retry-After")

    async def infer(self, slot: Slot, *, deadline: int, top_k: int) -> Inference:
        """Have the slot's image answered.

        Args:
            slot: with its pixels written.
            deadline: monotonic ns after which the answer is worthless.
            top_k: remembered with the record.

        Raises:
            DeadlineExceeded: if the deadline passes first.
            EngineCrashed: if engines died on this image, at last twice when it was alone.
            NonFiniteOutput: if the network answered with NaN or infinity.
            DeviceOutOfMemory: if the device has no room even for this image alone.
        """
        now = time.monotonic_ns()
        if deadline <= now:
            raise DeadlineExceeded("the deadline passed before the image was submitted")
        id_ = secrets.token_urlsafe(15)
        ticket = self._slots.submit(
            slot.number, id=id_, top_k=top_k, deadline=deadline, submitted=now
        )
        engine = await self._answered_by(slot.number, ticket, (deadline - now) / 1e9)
        finished = self._slots.read(slot, engine)
        if finished.outcome:
            error, text = _FAILURES[finished.outcome]
            raise error(text)
        inference = Inference(
            id=id_,
            values=finished.values,
            queue_seconds=(finished.started - now) / 1e9,
            inference_seconds=(finished.finished - finished.started) / 1e9,
        )
        self.meter.observe(SPAN_SECONDS, inference.queue_seconds, "queue")
        self.meter.observe(SPAN_SECONDS, inference.inference_seconds, "inference")
        return inference

    async def _answered_by(self, number: int, ticket: int, seconds: float) -> int:
        """The engine that has finished the slot."""
        loop = asyncio.get_running_loop()
        waiter = Waiter(number, ticket, loop.create_future())
        timer = loop.call_later(seconds, waiter.expire)
        self._send(waiter)
        try:
            return await waiter.future
        finally:
            timer.cancel()
            waiter.leave()

    def _send(self, waiter: Waiter) -> None:
        """To a ready engine before one that is away, and to the one with the least to do."""
        link = min(self._links, key=lambda link: (not link.is_ready, len(link.waiting)))
        link.send(waiter)

    # ── gates ────────────────────────────────────────────────────────────────────────────────

    async def statistics(
        self, model: LoadedModel, class_id: int | None, caller: int | None = None
    ) -> Statistics:
        """The gates' statistics, of all engines together.

        Args:
            model: whose gates.
            class_id: only predictions whose first class it was; only for everybody's.
            caller: only this caller's predictions; everybody's if ``None``.

        Raises:
            NotReady: if no engine answers.
        """
        query = StatisticsQuery(model.index, class_id, caller)
        total = GateStatistics.empty(model.manifest.answer.gate_size)
        since, recent = time.time(), []
        for meta, values in await self._ask(query):
            total.merge(query.read(meta, values))
            since = min(since, meta["since"])
            recent += [Recent(**fields) for fields in meta["recent"]]
        recent.sort(key=lambda entry: entry.time, reverse=True)
        return Statistics(total, since, recent[:RECENT])

    async def record(self, id_: str, caller: int | None = None) -> tuple[LoadedModel, Record]:
        """One earlier prediction, and the model that made it; of ``caller`` if that is given.

        Raises:
            UnknownPrediction: if no engine keeps it.
            NotReady: if no engine answers.
        """
        query = RecordQuery(id_, caller)
        for meta, values in await self._ask(query):
            if found := query.read(meta, values):
                index, record = found
                return self.models[index], record
        raise UnknownPrediction(
            f"no such prediction is kept: only the newest are ({self._records_kept} a model and "
            "engine), and none survives its engine"
        )

    async def _ask(self, query: Query) -> list[Reply]:
        """The replies of all engines that are ready."""
        links = [link for link in self._links if link.is_ready]
        if not links:
            raise NotReady("no engine is ready to be asked")
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return await asyncio.gather(*(link.ask(ask(query)) for link in links))
        except TimeoutError as error:
            raise NotReady("the engine is too busy to be asked") from error

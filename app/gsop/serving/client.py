"""The front's side of the engines: a slot for each image, an answer for each slot.

A front never queues more than its slots hold, and never loses what it sent: the pixels stay in the
slot until the answer is out, so when a connection ends because an engine died, everything that is
still waiting is sent again, to its successor or to another engine.
"""

import asyncio
import secrets
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from gsop.arena.counters import STAGE_SECONDS, Meter
from gsop.arena.layout import Arena, EngineState, Outcome, Phase
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
from gsop.gates.memory import GateStatistics, Record
from gsop.gates.queries import RECENT, Answer, Query, RecordQuery, StatisticsQuery, ask
from gsop.serving.link import EngineLink, Waiter
from gsop.store.manifest import Manifest

ASK_SECONDS = 10.0
"""How long a question about gates may wait behind a batch."""

_DRAINING = Phase.DRAINING.value

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

    @cached_property
    def width(self) -> int:
        """Numbers in an answer: probabilities, then gates."""
        return self.manifest.config.num_classes + self.manifest.gate_size


@dataclass(frozen=True)
class Slot:
    """A slot held by one image.

    Attributes:
        number: its place in the arena.
        ticket: marks this use of it.
        model: what it is for.
        image: ``(H, W, 3)`` uint8, to be written before :meth:`EngineClient.infer`.
    """

    number: int
    ticket: int
    model: LoadedModel
    image: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Inference:
    """The engine's answer for one image.

    Attributes:
        id: the prediction's public id; it cannot be guessed.
        values: ``(classes + G,)`` float32: probabilities, then gates.
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


class EngineClient:
    """Sends images to the engines and asks about gates. An asynchronous context manager."""

    def __init__(self, arena: Arena, front: int) -> None:
        self.arena = arena
        self._front = front
        self.meter = Meter.of_front(arena, front)
        self.models = [LoadedModel(i, m) for i, m in enumerate(arena.deployment.manifests)]
        self._fields = arena.fields
        self._phase = arena.service["phase"]
        self._epochs = arena.engines["epoch"]
        self._was_ready = False
        self._free = deque(arena.deployment.slots_of(front))
        self.capacity = len(self._free)
        # A client's connections are spread over the fronts by the kernel, so is its share.
        self._share = -(-arena.deployment.settings.slots_per_client // arena.deployment.fronts)
        self._held: Counter[str] = Counter()
        self._fields["ticket"][list(self._free)] = 0  # what a predecessor of this front held
        self._ticket = time.monotonic_ns()  # above all tickets of a predecessor
        self._links = [
            EngineLink(arena, engine, self.meter, self._send)
            for engine in range(arena.deployment.engines)
        ]

    async def __aenter__(self) -> Self:
        for link in self._links:
            await link.open()
        self.arena.fronts["serving"][self._front] = True
        return self

    async def __aexit__(self, *_: object) -> None:
        for link in self._links:
            link.close()

    # ── models and states ────────────────────────────────────────────────────────────────────

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

    @property
    def states(self) -> list[EngineState]:
        """What each engine is doing."""
        return [EngineState(state) for state in self.arena.engines["state"].tolist()]

    # ── images ───────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def acquire(
        self, model: LoadedModel, count: int = 1, owner: int = 0, holder: str = ""
    ) -> Iterator[list[Slot]]:
        """Take ``count`` slots, all or none, and give them back at the end.

        Args:
            model: what the images are for.
            count: how many there are.
            owner: who may see their records later; 0 is nobody in particular.
            holder: the client whose share of the slots they count to.

        Raises:
            Overloaded: if that many are not free.
            ClientOverloaded: if the client would have more than its share.
            NotReady: if no engine has been ready yet.
            Draining: if the service is shutting down.
        """
        self.check_admission(count)
        if self._share and self._held[holder] + count > self._share:
            raise ClientOverloaded(
                f"one client may have {self._share} images here at once; wait for answers before "
                "sending more"
            )
        slots = [self._hold(self._free.popleft(), model, owner) for _ in range(count)]
        self._held[holder] += count
        try:
            yield slots
        finally:
            self._held[holder] -= count
            if not self._held[holder]:
                del self._held[holder]
            for slot in slots:
                self._fields["ticket"][slot.number] = 0  # an engine that has not begun it skips it
                self._free.append(slot.number)

    def check_admission(self, count: int = 1) -> None:
        """Whether ``count`` slots could be taken now.

        Raises:
            Overloaded: if that many are not free.
            NotReady: if no engine has been ready yet.
            Draining: if the service is shutting down.
        """
        if self._phase.item() == _DRAINING:
            raise Draining("the service is shutting down; send the request to another instance")
        if not self._was_ready:
            self._was_ready = bool(self._epochs.any())
            if not self._was_ready:
                raise NotReady("the model is still being loaded", retry_after=2)
        if len(self._free) < count:
            raise Overloaded("every slot is taken; try again after the time in Retry-After")

    def _hold(self, number: int, model: LoadedModel, owner: int) -> Slot:
        self._ticket += 1
        self._fields["owner"][number] = owner
        self._fields["model"][number] = model.index
        self._fields["ticket"][number] = self._ticket
        return Slot(number, self._ticket, model, self.arena.image(number, model.index))

    async def infer(self, slot: Slot, *, deadline: int, top_k: int) -> Inference:
        """Have the slot's image answered.

        Args:
            slot: with its image written.
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
        fields = self._fields
        fields["id"][slot.number] = id_.encode()
        fields["top_k"][slot.number] = top_k
        fields["deadline"][slot.number] = deadline
        fields["submitted"][slot.number] = now
        await self._await_answer(slot, (deadline - now) / 1e9)
        if outcome := fields["outcome"].item(slot.number):
            error, text = _FAILURES[outcome]
            raise error(text)
        started = fields["started"].item(slot.number)
        inference = Inference(
            id=id_,
            values=self.arena.outputs[slot.number, : slot.model.width].copy(),
            queue_seconds=(started - now) / 1e9,
            inference_seconds=(fields["finished"].item(slot.number) - started) / 1e9,
        )
        self.meter.observe(STAGE_SECONDS, inference.queue_seconds, "queue")
        self.meter.observe(STAGE_SECONDS, inference.inference_seconds, "inference")
        return inference

    async def _await_answer(self, slot: Slot, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        waiter = Waiter(slot.number, slot.ticket, loop.create_future())
        timer = loop.call_later(seconds, waiter.expire)
        self._send(waiter)
        try:
            await waiter.future
        finally:
            timer.cancel()
            waiter.leave()

    def _send(self, waiter: Waiter) -> None:
        """To a ready engine before one that is away, and to the one with the least to do."""
        link = min(self._links, key=lambda link: (not link.is_ready, len(link.waiting)))
        link.send(waiter)

    # ── gates ────────────────────────────────────────────────────────────────────────────────

    async def statistics(
        self, model: LoadedModel, class_id: int | None, owner: int | None = None
    ) -> Statistics:
        """The gates' statistics, of all engines together.

        Args:
            model: whose gates.
            class_id: only predictions whose first class it was; only for everybody's.
            owner: only this owner's predictions; everybody's if ``None``.

        Raises:
            NotReady: if no engine answers.
        """
        query = StatisticsQuery(model.index, class_id, owner)
        total = GateStatistics.empty(model.manifest.gate_size)
        since, recent = time.time(), []
        for meta, values in await self._ask(query):
            total.merge(query.read(meta, values))
            since = min(since, meta["since"])
            recent += [Recent(**fields) for fields in meta["recent"]]
        recent.sort(key=lambda entry: entry.time, reverse=True)
        return Statistics(total, since, recent[:RECENT])

    async def record(self, id_: str, owner: int | None = None) -> tuple[LoadedModel, Record]:
        """One earlier prediction, and the model that made it; of ``owner`` if that is given.

        Raises:
            UnknownPrediction: if no engine keeps it.
            NotReady: if no engine answers.
        """
        query = RecordQuery(id_, owner)
        for meta, values in await self._ask(query):
            if found := query.read(meta, values):
                index, record = found
                return self.models[index], record
        raise UnknownPrediction(
            "no such prediction is kept: only the newest are "
            f"({self.arena.deployment.settings.attention_records} a model and engine), "
            "and none survives its engine"
        )

    async def _ask(self, query: Query) -> list[Answer]:
        """The answers of all engines that are ready."""
        links = [link for link in self._links if link.is_ready]
        if not links:
            raise NotReady("no engine is ready to be asked")
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return await asyncio.gather(*(link.ask(ask(query)) for link in links))
        except TimeoutError as error:
            raise NotReady("the engine is too busy to be asked") from error

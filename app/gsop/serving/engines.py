"""A generation's engines, as a front sees them: a slot for an image, an answer for a slot.

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

import numpy as np
import numpy.typing as npt

from gsop.arena.board import Board
from gsop.arena.counters import Meter
from gsop.arena.drift_board import DriftBoard
from gsop.arena.families import INFERENCE_SECONDS, PREDICTION_SECONDS
from gsop.arena.layout import Arena
from gsop.arena.service_board import ServiceBoard
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
)
from gsop.gates.drift_query import Reply
from gsop.gates.queries import Query, ask
from gsop.serving.link import EngineLink, Waiter
from gsop.serving.references import References
from gsop.store.manifest import Manifest

KEPT_FOR_OTHERS = 8
"""One slot of so many is kept for other clients than the one that has the rest."""

ASK_SECONDS = 10.0
"""How long a question about gates may wait behind a batch."""

_FAILURES: dict[int, tuple[type[GSoPError], str]] = {
    Outcome.EXPIRED: (DeadlineExceeded, "the image could not be answered before the deadline"),
    Outcome.NON_FINITE: (NonFiniteOutput, "the network's answer for this image is not finite"),
    Outcome.OUT_OF_MEMORY: (DeviceOutOfMemory, "the device has no memory left for this image"),
}


@dataclass(frozen=True)
class LoadedModel:
    """A version that the engines hold.

    Attributes:
        index: its place in the deployment.
        manifest: of the version.
        place: the label under which it is counted.
    """

    index: int
    manifest: Manifest
    place: str = "0"


@dataclass(frozen=True)
class Inference:
    """The engine's answer for one image.

    Attributes:
        id: the prediction's public id; it cannot be guessed.
        values: the answer, ``(width,)`` float32, as the manifest's layout has it.
        submitted: monotonic ns.
        started: monotonic ns at which its batch began.
        finished: monotonic ns at which its batch ended.
        batch: images in its batch.
        engine: which one answered.
    """

    id: str
    values: npt.NDArray[np.float32]
    submitted: int
    started: int
    finished: int
    batch: int
    engine: int

    @property
    def queue_seconds(self) -> float:
        """From submission to the start of its batch."""
        return (self.started - self.submitted) / 1e9

    @property
    def inference_seconds(self) -> float:
        """From the start of its batch to its end."""
        return (self.finished - self.started) / 1e9


class Engines:
    """Sends images to the engines of one generation, and asks about gates.

    Attributes:
        board: what the engines tell of themselves.
        models: those that are loaded.
        drift: how far the engines say that versions have drifted.
        references: what the versions bring.
        share: slots of this front that one client may have.
    """

    def __init__(self, arena: Arena, service: ServiceBoard, meter: Meter) -> None:
        deployment = arena.deployment
        self.board = Board(arena)
        self.drift = DriftBoard(arena)
        self.references = References(deployment.settings.model_store)
        self.models = [
            LoadedModel(index, manifest, str(deployment.place(index)))
            for index, manifest in enumerate(deployment.manifests)
        ]
        self._by_version = {(m.manifest.name, m.manifest.version): m for m in self.models}
        self._service = service
        self._mark = deployment.settings.replica_mark
        self._meter = meter
        self._generation = deployment.generation
        self._slots = FrontSlots(arena)
        # What an earlier generation was ready for waits until this one is.
        self._was_ready = deployment.generation > 1
        # A caller's connections are spread over the fronts by the kernel, so is its share.
        wanted = -(-deployment.settings.slots_per_client // deployment.fronts)
        left = self._slots.capacity // KEPT_FOR_OTHERS
        self.share = min(wanted or self._slots.capacity - left, self._slots.capacity)
        self._held: Counter[str] = Counter()
        self._links = [
            EngineLink(
                engine,
                deployment.engine_address(engine),
                slots=self._slots,
                board=self.board,
                meter=meter,
                resend=self._send,
                is_over=self._is_over,
            )
            for engine in range(deployment.engines)
        ]

    async def open(self) -> None:
        """Connect to the engines."""
        for link in self._links:
            await link.open()

    def close(self) -> None:
        """Disconnect; whoever still waits learns that there is no engine."""
        for link in self._links:
            link.close()

    def _is_over(self) -> bool:
        """Whether the supervisor has done with this generation."""
        return self._generation < self._service.oldest_generation

    @property
    def capacity(self) -> int:
        """Images that this front can have in the generation at once."""
        return self._slots.capacity

    @property
    def held(self) -> int:
        """Images that this front has in the generation now."""
        return self._slots.capacity - self._slots.free

    def find(self, name: str, version: str) -> LoadedModel | None:
        """That version, if it is loaded."""
        return self._by_version.get((name, version))

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
        if self._held[sharer] + count > self.share:
            raise ClientOverloaded(
                f"one client may have {self.share} images here at once; wait for answers before "
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
        if self._service.is_draining:
            raise Draining("the service is shutting down; send the request to another instance")
        if not self._was_ready:
            self._was_ready = self.board.was_ready
            if not self._was_ready:
                raise NotReady("the model is still being loaded", retry_after=2)
        if self._slots.free < count:
            raise Overloaded("every slot is taken; try again after the time in Retry-After")

    async def infer(self, slot: Slot, *, deadline: int, top_k: int, kept: bool = True) -> Inference:
        """Have the slot's image answered.

        Args:
            slot: with its pixels written.
            deadline: monotonic ns after which the answer is worthless.
            top_k: remembered with the record.
            kept: whether the engine is to remember the answer.

        Raises:
            DeadlineExceeded: if the deadline passes first.
            EngineCrashed: if engines died on this image, at last twice when it was alone.
            NonFiniteOutput: if the network answered with NaN or infinity.
            DeviceOutOfMemory: if the device has no room even for this image alone.
        """
        now = time.monotonic_ns()
        if deadline <= now:
            raise DeadlineExceeded("the deadline passed before the image was submitted")
        id_ = f"{self._mark}.{secrets.token_urlsafe(15)}"
        ticket = self._slots.submit(
            slot.number, id=id_, top_k=top_k, deadline=deadline, submitted=now, kept=kept
        )
        engine = await self._answered_by(slot.number, ticket, (deadline - now) / 1e9)
        finished = self._slots.read(slot, engine)
        if finished.outcome:
            error, text = _FAILURES[finished.outcome]
            raise error(text)
        return Inference(
            id=id_,
            values=finished.values,
            submitted=now,
            started=finished.started,
            finished=finished.finished,
            batch=finished.batch,
            engine=engine,
        )

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

    async def ask(self, query: Query) -> list[Reply]:
        """The replies of all engines that are ready, to a question about gates.

        Raises:
            NotReady: if no engine is, or none answers in time.
        """
        links = [link for link in self._links if link.is_ready]
        if not links:
            raise NotReady("no engine is ready to be asked")
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return await asyncio.gather(*(link.ask(ask(query)) for link in links))
        except TimeoutError as error:
            raise NotReady("the engine is too busy to be asked") from error


def count_answer(meter: Meter, inference: Inference, place: str, role: str) -> None:
    """Count how long an answer took, by its version's place and why that was asked."""
    queued, inferred = inference.queue_seconds, inference.inference_seconds
    meter.observe(INFERENCE_SECONDS, inferred, place, role)
    meter.observe(PREDICTION_SECONDS, queued + inferred, place, role)

"""Classify: what the service is for, whatever protocol asks for it.

A protocol reads a request and writes an answer. All that lies between is here: who is let in and
when, what a request may hold of the front's memory and of the slots, until when its answer is worth
something, what happens when its caller leaves, and what is counted::

    with classifier.admit(name, version, caller, address) as visit:
        images = …                        # the protocol's: counted with visit.memory.add()
        outcomes = await visit.classify(images, top_k=5, timeout_ms=None, watch=watch)
    …                                     # the protocol's: written with visit.seconds
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Self, cast

import numpy as np

from gsop.arena.families import ANSWER_SECONDS, IMAGES, PREDICTIONS, SPAN_SECONDS
from gsop.arena.slot import Pixels, Slot
from gsop.errors import GSoPError
from gsop.keys import Caller
from gsop.serving.body_memory import BodyMemory, BodyShare
from gsop.serving.choice import Chosen, Wanted, choose
from gsop.serving.clients import client_of
from gsop.serving.decoding import Effort, Picture
from gsop.serving.engines import Inference, LoadedModel, count_answer
from gsop.serving.generation import Generations
from gsop.serving.shadow import Shadows
from gsop.serving.traffic import Lookup, Role

Watch = Callable[[Callable[[], None] | None], None]
"""How a protocol tells that a caller has left: it is given what to call then, or ``None`` once that
does not matter any more."""


REQUEST_EFFORT = 4
"""So many times what one image may take, all images of a request may take to be decoded."""


class CallerLeft(Exception):
    """Nobody waits for the answer any more: there is nobody to whom an error could be told."""


@dataclass(frozen=True)
class Classified:
    """An image's answer, and where its time went.

    Attributes:
        model: the version that answered.
        role: why it was this one.
        inference: the answer.
        decode_seconds: of its decoding.
    """

    model: LoadedModel
    role: Role
    inference: Inference
    decode_seconds: float


class Way:
    """When an image came how far; monotonic ns, 0 if it did not.

    Attributes:
        began: its decoding began.
        decoded: its decoding ended.
        inference: its answer, which has the rest.
    """

    __slots__ = ("began", "decoded", "inference")

    def __init__(self) -> None:
        self.began = 0
        self.decoded = 0
        self.inference: Inference | None = None


Outcomes = list[Classified | GSoPError]
"""One for each image, in order: a bad one does not harm the others."""


def _no_header(_: str) -> None:
    return None


class Classifier:
    """Turns images into answers.

    Attributes:
        generations: where they are answered.
        settings: the service's.
    """

    def __init__(self, generations: Generations) -> None:
        self.generations = generations
        self.settings = generations.memory.settings
        memory = self.settings.body_memory_bytes
        # A client's other half would be somebody's first; whatever it is, one body fits.
        self._memory = BodyMemory(memory, max(memory // 2, self.settings.max_body_bytes))
        self._shadows = Shadows(generations)

    @property
    def max_images(self) -> int:
        """Most images in one request."""
        return min(self.settings.max_images, self.generations.present.engines.share)

    def admit(
        self,
        name: str | None,
        version: str | None,
        caller: Caller,
        address: str,
        header: Lookup = _no_header,
    ) -> "Visit":
        """Let a request in, before its body is read: a refusal should cost next to nothing.

        What is returned is a context manager, at whose end nothing is held any more.

        Args:
            name: of a loaded model; ``None``: the default one.
            version: of that model; ``None``: the one that its traffic says.
            caller: who sent it.
            address: where it came from; tells apart whose share it takes where there are no keys.
            header: looks the request's headers up, where the traffic goes by one.

        Raises:
            UnknownModel: if no such version is loaded.
            Overloaded: if no slot is free.
            NotReady: if no engine has been ready yet.
            Draining: if the service is shutting down.
        """
        began = time.monotonic_ns()
        wanted = Wanted(name, version, caller, header)
        chosen = choose(self.generations, wanted)
        chosen.generation.engines.check_admission()
        sharer = caller.name or client_of(address)
        return Visit(self, wanted, chosen, self._memory.share(sharer), sharer, began)

    def still(self, chosen: Chosen, wanted: Wanted) -> Chosen:
        """The same version where it is loaded now: that may have changed while the body came.

        Raises:
            UnknownModel: if it is not loaded any more, nor another one that would do.
        """
        present = self.generations.present
        if chosen.generation is present:
            return chosen
        manifest = chosen.model.manifest
        model = present.engines.find(manifest.name, manifest.version)
        if model is None:
            return choose(self.generations, wanted)
        return chosen._replace(generation=present, model=model)

    async def decode_and_infer(
        self,
        image: Picture,
        slot: Slot,
        chosen: Chosen,
        way: Way,
        *,
        deadline: int,
        top_k: int,
        client: str = "",
        effort: Effort | None = None,
    ) -> Classified:
        """Decode an image into its slot and have it answered.

        Args:
            image: to be decoded, or pixels.
            slot: held by the caller.
            chosen: the version that the slot is held for.
            way: what is to be told of it afterwards.
            deadline: monotonic ns.
            top_k: remembered with the record.
            client: whose turn to decode it takes.
            effort: what its request's images may still cost.

        Raises:
            GSoPError: of :meth:`Decoders.decode` and :meth:`Engines.infer`.
        """
        meter, model, role = self.generations.meter, chosen.model, chosen.role
        engines, decoders = chosen.generation.engines, chosen.generation.decoders
        result = "cancelled"
        try:
            way.began = time.monotonic_ns()
            await decoders.decode(
                image, slot.model, slot.pixels, deadline=deadline, client=client, effort=effort
            )
            way.decoded = time.monotonic_ns()
            decoded = (way.decoded - way.began) / 1e9
            meter.observe(SPAN_SECONDS, decoded, "decode")
            way.inference = inference = await engines.infer(slot, deadline=deadline, top_k=top_k)
            result = "ok"
        except GSoPError as error:
            result = error.code
            raise
        finally:
            meter.count(IMAGES, result)
            meter.count(PREDICTIONS, model.place, role, result)
        meter.observe(SPAN_SECONDS, inference.queue_seconds, "queue")
        meter.observe(SPAN_SECONDS, inference.inference_seconds, "inference")
        count_answer(meter, inference, model.place, role)
        self._shadows.copy(chosen, image, slot.pixels, inference.values)
        return Classified(model, role, inference, decoded)


class Visit:
    """One request on its way. A context manager.

    Attributes:
        memory: what its body takes of the front's.
        seconds: from the request's head to its answer; 0 until it is classified.
        began, read, answered: monotonic ns of its head, of its body's end and of its last answer; 0
            until then.
        ways: its images', in order.
    """

    def __init__(
        self,
        classifier: Classifier,
        wanted: Wanted,
        chosen: Chosen,
        memory: BodyShare,
        sharer: str,
        began: int,
    ) -> None:
        self.memory = memory
        self._classifier = classifier
        self._wanted = wanted
        self._chosen = chosen
        self._sharer = sharer
        self.began = began
        self.read = self.answered = 0
        self.ways: list[Way] = []
        self.seconds = 0.0

    @property
    def role(self) -> Role:
        """Why it is that one."""
        return self._chosen.role

    def __enter__(self) -> Self:
        VISIT.set(self)
        return self

    def __exit__(self, *error: object) -> None:
        self.memory.__exit__(*error)

    def choose(self, name: str | None, version: str | None) -> None:
        """Take another version: the body, which comes late, may name one.

        Raises:
            UnknownModel: if no such version is loaded.
        """
        if (name, version) != (self._wanted.name, self._wanted.version):
            self._wanted = self._wanted._replace(name=name, version=version)
            self._chosen = choose(self._classifier.generations, self._wanted)

    @property
    def model(self) -> LoadedModel:
        """The version that is to answer; if it is unloaded meanwhile, another one does."""
        return self._chosen.model

    async def classify(
        self, images: Sequence[Picture], *, top_k: int, timeout_ms: int | None, watch: Watch
    ) -> Outcomes:
        """Have images answered.

        Args:
            images: files, or pixels; at most :attr:`Classifier.max_images`.
            top_k: remembered with the records.
            timeout_ms: from the request's head on; ``GSOP_TIMEOUT_MS`` if ``None``.
            watch: tells if the caller leaves.

        Raises:
            UnknownModel: if the version has been unloaded meanwhile.
            Overloaded: if there are not as many free slots.
            ClientOverloaded: if one caller would have more than its share.
            CallerLeft: if it leaves.
        """
        classifier = self._classifier
        meter = classifier.generations.meter
        self.read = time.monotonic_ns()
        meter.observe(SPAN_SECONDS, (self.read - self.began) / 1e9, "read")
        timeout = timeout_ms or classifier.settings.timeout_ms
        deadline = self.began + timeout * 1_000_000
        self._chosen = chosen = classifier.still(self._chosen, self._wanted)
        engines, caller = chosen.generation.engines, self._wanted.caller.number
        with (
            while_watched(watch),
            engines.acquire(chosen.model, len(images), caller, self._sharer) as slots,
        ):
            outcomes = await self._answer_all(images, slots, chosen, deadline=deadline, top_k=top_k)
        self.answered = time.monotonic_ns()
        self.seconds = (self.answered - self.began) / 1e9
        meter.observe(SPAN_SECONDS, self.seconds, "total")
        meter.observe(ANSWER_SECONDS, self.seconds, chosen.model.place, chosen.role)
        return outcomes

    async def preprocess(
        self, image: bytes, *, timeout_ms: int | None, watch: Watch
    ) -> tuple[LoadedModel, Pixels]:
        """An image as the network would see it. Takes no slot, and asks no engine.

        Args:
            image: the file.
            timeout_ms: from the request's head on; ``GSOP_TIMEOUT_MS`` if ``None``.
            watch: tells if the caller leaves.

        Returns:
            The version that it is made for, and ``(H, W, 3)`` uint8 RGB.

        Raises:
            GSoPError: of :meth:`Decoders.decode`.
            CallerLeft: if the caller leaves.
        """
        self.read, classifier = time.monotonic_ns(), self._classifier
        self._chosen = chosen = classifier.still(self._chosen, self._wanted)
        deadline = self.began + (timeout_ms or classifier.settings.timeout_ms) * 1_000_000
        spec = chosen.model.manifest.input
        pixels = np.empty((spec.height, spec.width, 3), np.uint8)
        with while_watched(watch):
            await chosen.generation.decoders.decode(
                image, chosen.model.index, pixels, deadline=deadline, client=self._sharer
            )
        return chosen.model, pixels

    async def _answer_all(
        self,
        images: Sequence[Picture],
        slots: Sequence[Slot],
        chosen: Chosen,
        *,
        deadline: int,
        top_k: int,
    ) -> Outcomes:
        effort = Effort(REQUEST_EFFORT * self._classifier.settings.decode_seconds)
        self.ways = [Way() for _ in images]
        tasks = (
            self._classifier.decode_and_infer(
                image,
                slot,
                chosen,
                way,
                deadline=deadline,
                top_k=top_k,
                client=self._sharer,
                effort=effort,
            )
            for image, slot, way in zip(images, slots, self.ways, strict=True)
        )
        if len(images) == 1:  # needs no task of its own
            try:
                return [await next(tasks)]
            except GSoPError as error:
                return [error]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        return [_expected(outcome) for outcome in outcomes]


VISIT: ContextVar[Visit | None] = ContextVar("visit", default=None)
"""The visit of this task's request, for whoever tells of it afterwards."""


def _expected(outcome: Classified | BaseException) -> Classified | GSoPError:
    if isinstance(outcome, Classified | GSoPError):
        return outcome
    raise outcome


@contextmanager
def while_watched(watch: Watch) -> Iterator[None]:
    """Cancel the block when the caller leaves: nobody else would, and its slot would stay taken.

    Raises:
        CallerLeft: if it left.
    """
    task = cast("asyncio.Task[object]", asyncio.current_task())
    left = False

    def leave() -> None:
        nonlocal left
        left = True
        task.cancel()

    watch(leave)
    try:
        yield
    except asyncio.CancelledError:
        if left:
            task.uncancel()
            raise CallerLeft from None
        raise
    finally:
        watch(None)

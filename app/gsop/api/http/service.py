"""What the routes share: the engines' client, the decoders, the settings."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import Depends, Request
from starlette.requests import ClientDisconnect

from gsop.api.http.bodies import BodyMemory
from gsop.api.http.guard import WATCH
from gsop.arena.counters import IMAGES, STAGE_SECONDS
from gsop.errors import GSoPError
from gsop.serving.client import EngineClient, Inference, LoadedModel, Slot
from gsop.serving.decoders import Decoders
from gsop.settings import Settings


@dataclass(frozen=True)
class Answer:
    """An image's answer, and where its time went."""

    model: LoadedModel
    inference: Inference
    decode_seconds: float


class Service:
    """Turns image bytes into answers."""

    def __init__(self, client: EngineClient, settings: Settings, decoders: Decoders) -> None:
        self.client = client
        self.settings = settings
        self.bodies = BodyMemory(settings.body_memory_bytes)
        self._decoders = decoders

    async def classify(self, image: bytes, slot: Slot, *, deadline: int, top_k: int) -> Answer:
        """Decode an image into its slot and have it answered.

        Args:
            image: the file's bytes.
            slot: held by the caller.
            deadline: monotonic ns.
            top_k: remembered with the record.

        Raises:
            GSoPError: of :meth:`Decoders.decode` and :meth:`EngineClient.infer`.
        """
        result = "cancelled"
        try:
            began = time.perf_counter()
            await self._decoders.decode(image, slot.model.index, slot.image, deadline=deadline)
            decoded = time.perf_counter() - began
            self.client.meter.observe(STAGE_SECONDS, decoded, "decode")
            inference = await self.client.infer(slot, deadline=deadline, top_k=top_k)
            result = "ok"
        except GSoPError as error:
            result = error.code
            raise
        finally:
            self.client.meter.count(IMAGES, result)
        return Answer(slot.model, inference, decoded)

    async def classify_all(
        self, images: Sequence[bytes], slots: Sequence[Slot], *, deadline: int, top_k: int
    ) -> list[Answer | GSoPError]:
        """Answer several images at once; a bad one does not harm the others."""
        if len(images) == 1:  # needs no task of its own
            try:
                only = await self.classify(images[0], slots[0], deadline=deadline, top_k=top_k)
            except GSoPError as error:
                return [error]
            return [only]
        outcomes = await asyncio.gather(
            *(
                self.classify(image, slot, deadline=deadline, top_k=top_k)
                for image, slot in zip(images, slots, strict=True)
            ),
            return_exceptions=True,
        )
        return [_expected(outcome) for outcome in outcomes]


def _expected(outcome: Answer | BaseException) -> Answer | GSoPError:
    if isinstance(outcome, Answer | GSoPError):
        return outcome
    raise outcome


@contextmanager
def while_connected(request: Request) -> Iterator[None]:
    """Cancel the block when the client leaves: nobody else would, and its slot would stay taken.

    Raises:
        ClientDisconnect: if it left.
    """
    task = cast("asyncio.Task[object]", asyncio.current_task())
    left = False

    def leave() -> None:
        nonlocal left
        left = True
        task.cancel()

    watch = request.scope.get(WATCH) or _AsgiWatch(request)
    watch(leave)
    try:
        yield
    except asyncio.CancelledError:
        if left:
            task.uncancel()
            raise ClientDisconnect from None
        raise
    finally:
        watch(None)


class _AsgiWatch:
    """:meth:`GuardedProtocol.watch` under other servers: ASGI tells whoever waits to receive."""

    def __init__(self, request: Request) -> None:
        self._receive = request.receive
        self._on_leave: Callable[[], None] | None = None
        self._watcher: asyncio.Future[Any] | None = None

    def __call__(self, on_leave: Callable[[], None] | None) -> None:
        self._on_leave = on_leave
        if on_leave is not None:
            self._watcher = asyncio.ensure_future(self._receive())
            self._watcher.add_done_callback(self._tell)
        elif self._watcher is not None:
            self._watcher.cancel()

    def _tell(self, watcher: asyncio.Future[Any]) -> None:
        if self._on_leave is not None and not watcher.cancelled():
            self._on_leave()


async def get_service(request: Request) -> Service:
    """The service that this front process runs.

    Asynchronous only because FastAPI sends plain functions through a thread, at a price.
    """
    return cast("Service", request.app.state.service)


ServiceDep = Annotated[Service, Depends(get_service)]

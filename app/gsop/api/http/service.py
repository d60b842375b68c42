"""What the routes share: one front's hands on the service."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

from fastapi import Depends, Request
from pydantic import BaseModel

from gsop.api.http.guard import WATCH
from gsop.api.tracing import Tracer
from gsop.arena.exemplars import Exemplars
from gsop.serving.callers import Callers
from gsop.serving.classify import Classifier, Watch
from gsop.serving.control import send_order
from gsop.serving.engines import Engines
from gsop.serving.gates import GateQuestions
from gsop.serving.generation import Generations
from gsop.settings import Settings

TOLD = "gsop.told"
"""In a request's ASGI scope: what its line in the log is to tell beside what all lines do."""


class KeptText:
    """A text that is made anew when somebody asks for it and it has become stale."""

    def __init__(self) -> None:
        self._made = float("-inf")
        self._text = b""

    def get(self, seconds: float, make: Callable[[], bytes]) -> bytes:
        """The text; made by ``make``, unless one was made in the last ``seconds``."""
        now = time.monotonic()
        if now - self._made >= seconds:
            self._text, self._made = make(), now
        return self._text


@dataclass(frozen=True)
class Service:
    """One front's hands on the service.

    Attributes:
        generations: where images are answered.
        classifier: turns images into answers.
        gates: asks what is remembered.
        callers: who may send requests.
        certificate_expires: Unix seconds; ``None`` if the service speaks no TLS.
        exemplars: keeps a trace for each bucket of the requests' times.
        tracer: makes traces; ``None`` if nobody takes them.
        now: what ``GET /status`` told last.
    """

    generations: Generations
    classifier: Classifier
    gates: GateQuestions
    callers: Callers
    exemplars: Exemplars
    certificate_expires: float | None = None
    tracer: Tracer | None = None
    now: KeptText = field(default_factory=KeptText)

    @property
    def settings(self) -> Settings:
        """The service's settings."""
        return self.generations.memory.settings

    @property
    def engines(self) -> Engines:
        """Those of the generation that gets the requests."""
        return self.generations.present.engines

    async def order(self, order: BaseModel) -> dict[str, Any]:
        """Have the supervisor change something; raises as :func:`send_order`."""
        return dict(await send_order(self.generations.memory.plan.control, order))


async def get_service(request: Request) -> Service:
    """The service that this front process runs.

    Asynchronous only because FastAPI sends plain functions through a thread, at a price.
    """
    return cast("Service", request.app.state.service)


ServiceDep = Annotated[Service, Depends(get_service)]


def watch_of(request: Request) -> Watch:
    """How to learn that the client of a request leaves."""
    watch: Watch | None = request.scope.get(WATCH)
    return watch or _AsgiWatch(request)


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

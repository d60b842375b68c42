"""What the routes share: one front's hands on the service."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import Depends, Request

from gsop.api.http.guard import WATCH
from gsop.arena.layout import Arena
from gsop.serving.classify import Classifier, Watch
from gsop.serving.engines import Engines
from gsop.settings import Settings


@dataclass(frozen=True)
class Service:
    """One front's hands on the service.

    Attributes:
        arena: the shared memory.
        engines: where images are answered and gates remembered.
        classifier: turns images into answers.
    """

    arena: Arena
    engines: Engines
    classifier: Classifier

    @property
    def settings(self) -> Settings:
        """The service's settings."""
        return self.arena.deployment.settings


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

"""A front process: uvicorn over the supervisor's listening socket."""

import asyncio
import gc
import logging
import resource
import socket
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import uvicorn

from gsop.api.http.app import FrontProcess, create_app
from gsop.api.http.guard import guarded
from gsop.arena.block import Role
from gsop.arena.service import ServiceMemory
from gsop.environment import collector
from gsop.errors import SetupError
from gsop.logs import configure
from gsop.processes.cage import cage_front
from gsop.processes.lifeline import leave_with_supervisor
from gsop.processes.nursery import Birth, Line, Report
from gsop.processes.scheduling import let_work_gather
from gsop.serving.generation import Arenas
from gsop.serving.supervisor import ARENA, LINE
from gsop.settings import Settings

log = logging.getLogger("gsop.front")

OTHER_DESCRIPTORS = 128
"""Files that a front has open beside its connections: engines, decoders (three each, and as many of
the generation before while there are two), models' manifests."""

NAMES_PORT = 53
"""Of name servers, which a front asks where the collector of traces is."""


def main(
    front: int,
    incarnation: int,
    lifeline_fd: int,
    service_fd: int,
    arena_fd: int,
    listener_fd: int,
    line_fd: int,
) -> None:
    """Serve until SIGTERM, or until the supervisor is gone.

    Raises:
        SetupError: if it cannot be set up; starting it again does not mend that.
    """
    memory = ServiceMemory.attach(service_fd, Role("front", front))
    settings = memory.settings
    configure(f"front {front}", level=settings.log_level, form=settings.log_format, private=True)
    traces = collector()
    decoders, arenas = DecoderLine(socket.socket(fileno=line_fd)), Arenas(memory.role)
    arenas.take(arena_fd)

    def receive(message: bytes, descriptors: list[int]) -> None:
        take = {LINE: decoders.replace, ARENA: arenas.take}[message]
        for descriptor in descriptors:
            take(descriptor)

    try:
        config = uvicorn.Config(
            create_app(FrontProcess(memory, arenas, incarnation, decoders.fork)),
            http=guarded(
                head_seconds=settings.head_seconds,
                max_connections=_connections(settings.max_connections),
            ),
            ws="none",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            ssl_certfile=settings.tls_certfile,
            ssl_keyfile=settings.tls_keyfile,
            timeout_keep_alive=settings.keep_alive_seconds,
            timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        )
        config.load()
    except OSError as error:
        raise SetupError(f"front {front} cannot be set up: {error}") from error
    connects = () if traces is None else (traces.port, NAMES_PORT)
    listens = () if settings.grpc_port is None else (settings.grpc_port,)
    cage_front(
        _readable(settings), settings.cage, connects=connects, listens=listens
    )  # before there are threads, for they inherit it
    leave_with_supervisor(socket.socket(fileno=lifeline_fd), receive)
    let_work_gather()
    gc.freeze()  # what the imports made lives as long as the process: collections pass it over
    server = _Server(config, handshake_seconds=settings.head_seconds)
    server.run(sockets=[socket.socket(fileno=listener_fd)])
    if not server.started:
        sys.exit(1)


class DecoderLine:
    """This front's line to the nursery of its decoders; another comes when that has died."""

    def __init__(self, line: socket.socket) -> None:
        self._line = Line(line)

    def fork(self, birth: Birth) -> Report:
        """Have a decoder forked; raises as :meth:`Line.fork`."""
        return self._line.fork(birth)

    def replace(self, descriptor: int) -> None:
        """The supervisor hands a new line."""
        old, self._line = self._line, Line(socket.socket(fileno=descriptor))
        old.close()


class _Server(uvicorn.Server):
    """uvicorn with a bound on TLS handshakes: theirs is a minute, and no option."""

    def __init__(self, config: uvicorn.Config, *, handshake_seconds: float) -> None:
        super().__init__(config)
        self._handshake_seconds = handshake_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        if self.config.ssl is not None:
            loop.create_server = partial(  # type: ignore[method-assign]  # there is no other way in
                loop.create_server, ssl_handshake_timeout=self._handshake_seconds
            )
        await super().startup(sockets)


def _readable(settings: Settings) -> Iterator[Path]:
    """What a front reads while it serves: the store's manifests, also where links lead to them."""
    if (traces := collector()) is not None:
        yield from traces.certificates
    yield settings.model_store
    for depth in ("*", "*/*", "*/*/*"):
        yield from (file for file in settings.model_store.glob(depth) if file.is_symlink())


def _connections(wanted: int) -> int:
    """How many connections there can be: as many as wanted, if the system gives the descriptors."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most == resource.RLIM_INFINITY or wanted + OTHER_DESCRIPTORS <= most:
        return wanted
    possible = max(1, most - OTHER_DESCRIPTORS)
    log.warning(
        "%d connections at most: raise the limit of open files, or lower GSOP_MAX_CONNECTIONS",
        possible,
    )
    return possible

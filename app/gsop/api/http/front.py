"""A front process: uvicorn over the supervisor's listening socket.

``python -m gsop.api.http.front ARENA_FD FRONT LISTENER_FD``. Standard input is the lifeline: its
end means that the supervisor died, and that nobody would ever end this process.
"""

import asyncio
import gc
import logging
import os
import resource
import socket
import sys
import threading
from functools import partial

import uvicorn

from gsop.api.http.app import create_app
from gsop.api.http.guard import guarded
from gsop.arena.layout import Arena
from gsop.logs import configure
from gsop.processes.scheduling import let_work_gather

log = logging.getLogger("gsop.front")

OTHER_DESCRIPTORS = 64
"""Files that a front has open beside its connections: engines, decoders, models' manifests."""

KEEP_ALIVE_SECONDS = 65
"""Longer than load balancers keep idle connections (60 s): it is they who must close first."""


def main() -> None:
    """Serve until SIGTERM."""
    arena = Arena.attach(int(sys.argv[1]))
    front = int(sys.argv[2])
    listener = socket.socket(fileno=int(sys.argv[3]))
    settings = arena.deployment.settings
    configure(f"front {front}", level=settings.log_level, form=settings.log_format, private=True)
    threading.Thread(target=_leave_with_supervisor, name="lifeline", daemon=True).start()
    config = uvicorn.Config(
        create_app(arena, front),
        http=guarded(
            head_seconds=settings.head_seconds,
            max_connections=_connections(settings.max_connections),
        ),
        ws="none",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        ssl_certfile=settings.tls_certfile,
        ssl_keyfile=settings.tls_keyfile,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
    )
    let_work_gather()
    gc.freeze()  # what the imports made lives as long as the process: collections pass it over
    _Server(config, handshake_seconds=settings.head_seconds).run(sockets=[listener])


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


def _leave_with_supervisor() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()

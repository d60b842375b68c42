"""The engine process: opens and warms its models, then runs :class:`gsop.engine.worker.Worker`."""

import logging
import os
import signal
import socket
from collections.abc import Sequence
from typing import Any

from gsop.arena.block import Role
from gsop.arena.board import EngineBoard
from gsop.arena.counters import Meter
from gsop.arena.layout import Arena
from gsop.arena.service import ServiceMemory
from gsop.arena.states import EngineState
from gsop.backends.base import Backend, Place, check_answers, warm_up_in_memory
from gsop.backends.gpus import see_only
from gsop.backends.registry import find_backend
from gsop.engine.inbox import Inbox
from gsop.engine.worker import Worker
from gsop.errors import SetupError, StoreError
from gsop.gates.reference import Reference
from gsop.logs import configure
from gsop.processes.cage import cage_engine
from gsop.processes.memory import resident_bytes
from gsop.processes.scheduling import let_work_gather
from gsop.settings import Settings
from gsop.store.manifest import Manifest
from gsop.store.reference import read_reference

log = logging.getLogger("gsop.engine")


def main(
    engine: int,
    incarnation: int,
    lifeline_fd: int,
    service_fd: int,
    arena_fd: int,
    listener_fd: int,
) -> None:
    """Be the engine of that number, until the lifeline ends.

    Raises:
        SetupError: if it cannot be set up; starting it again does not mend that.
    """
    # The supervisor alone decides when an engine stops: fronts may still wait for it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    arena = Arena.attach(arena_fd, Role("engine", engine))
    seat = Role("engine", arena.deployment.seat(engine))
    meter = Meter(ServiceMemory.attach(service_fd, seat))
    settings = arena.deployment.settings
    configure(f"engine {engine}", level=settings.log_level, form=settings.log_format)
    board = EngineBoard(arena, incarnation)
    try:
        backends = _open(arena, engine, board)
        if all(backend.computes_here for backend in backends):
            let_work_gather()
        references = [_reference_of(settings, backend.manifest) for backend in backends]
        board.enter(EngineState.WARMING)
        for backend in backends:
            warm_up_in_memory(backend)
            check_answers(backend)
    except SetupError:
        raise
    except Exception as error:  # whatever the device raises; it may be well later on
        reason = str(error).strip().partition("\n")[0]
        log.error("cannot start on %s: %s", settings.devices[engine], reason, exc_info=True)
        os._exit(1)
    board.limit_batches(min(backend.max_batch for backend in backends))
    board.use_memory(resident_bytes())
    cage_engine(settings.cage)  # now: a device's driver may start programs until it is set up
    board.enter(EngineState.READY)
    _tell_ready(backends)
    with Inbox(socket.socket(fileno=listener_fd), socket.socket(fileno=lifeline_fd)) as inbox:
        try:
            Worker(arena, board, backends, inbox, meter, references).run()
        except Exception:  # whatever the device raises
            log.exception("the device failed: this engine ends, and a new one takes over its work")
            os._exit(1)  # the device may hang whoever takes it down in good order
    board.enter(EngineState.STOPPED)
    os._exit(0)  # nothing is left to save, and torch takes seconds to take itself down


def _tell_ready(backends: Sequence[Backend[Any]]) -> None:
    versions = ", ".join(f"{b.manifest.name}/{b.manifest.version}" for b in backends)
    device, hardware = backends[0].device, backends[0].hardware
    where = f"{device} ({hardware})" if hardware else device
    log.info("ready: %s on %s, in %s", versions, where, backends[0].precision)


def _open(arena: Arena, engine: int, board: EngineBoard) -> Sequence[Backend[Any]]:
    """Read, verify and place every model of the deployment."""
    settings = arena.deployment.settings
    board.enter(EngineState.LOADING)
    kind = find_backend(settings.backend)
    name = settings.devices[engine]
    place = Place.of(settings, name, see_only(name, os.environ))
    backends = [
        kind.open(settings.model_store / manifest.name / manifest.version, manifest, place)
        for manifest in arena.deployment.manifests
    ]
    for backend in backends:
        if settings.pixels == "planes":
            backend.expect_bundles()
        backend.reach(arena.view("inputs"))
    board.describe(
        device=backends[0].device,
        precision=backends[0].precision,
        batch_limit=min(backend.max_batch for backend in backends),
    )
    return backends


def _reference_of(settings: Settings, manifest: Manifest) -> Reference | None:
    """What a version's gates are compared with; a version serves without it, too."""
    try:
        return read_reference(settings.model_store / manifest.name / manifest.version, manifest)
    except StoreError as error:
        log.warning("drift is not judged by the version's own reference: %s", error)
        return None

"""The parent of all: makes the arena, starts engines and fronts, replaces what dies, drains.

It never touches a request. Two nurseries fork its processes: one that has torch imported, the
engines; one that has not, the fronts and, asked by them, their decoders. When the supervisor dies,
however it dies, every process sees the end of its lifeline and goes too.
"""

import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Self

from gsop.arena.board import Board, SupervisorBoard
from gsop.arena.deployment import Deployment
from gsop.arena.layout import Arena
from gsop.arena.messages import address_prefix, listen
from gsop.arena.states import EngineState, Phase
from gsop.backends.registry import module_of
from gsop.processes.child import Child
from gsop.processes.listener import turn_away
from gsop.processes.nursery import Birth, Ending, Nursery
from gsop.processes.orphans import Orphanage
from gsop.settings import Settings
from gsop.store.manifest import Manifest

log = logging.getLogger("gsop.supervisor")

BEAT_SECONDS = 0.5
LEAVE_SECONDS = 5.0
"""How long an engine may take to leave once nothing waits for it."""

MOST_FRONT_FAILURES = 6
"""So often a front may die before any has ever served; then something is wrong with all of them."""

SPINS = {"GOMP_SPINCOUNT": "10000"}
"""How long a thread of a forward that waits for the others keeps its processor: some 20 µs.

Without the bound it is milliseconds, and where there are fewer processors than threads just then (a
front wants one, a container has a quota) that is the processor that the others need: a ResNet-50's
forward took up to 18 times its time (docs/performance.md)."""

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""numpy would start a thread for each processor in every process, and none of ours needs them."""

LINE = b"line"
"""Message through a front's lifeline: with it comes a new line to the nursery of the decoders."""


class Supervisor:
    """The service's processes. A context manager: what was started is gone at its end.

    Args:
        settings: the service's.
        manifests: the models to load, the first being the default.
        routes: the calls that are counted by name.
        front_modules: what fronts have imported.
        adopt: whether orphans come to this process; only where all its children are ours.

    Attributes:
        arena: the shared memory.
        failure: why the service cannot start, once that is known.
    """

    def __init__(
        self,
        settings: Settings,
        manifests: Sequence[Manifest],
        *,
        routes: tuple[str, ...] = (),
        front_modules: Sequence[str] = (),
        adopt: bool = False,
    ) -> None:
        backend = module_of(settings.backend)
        self._folder = (
            tempfile.TemporaryDirectory(prefix="gsop-") if sys.platform != "linux" else None
        )
        prefix = address_prefix(secrets.token_hex(8), self._folder.name if self._folder else "")
        self.arena = Arena.create(
            Deployment(settings=settings, manifests=tuple(manifests), address=prefix, routes=routes)
        )
        self.failure: str | None = None
        self._settings = settings
        self._board, self._own_board = Board(self.arena), SupervisorBoard(self.arena)
        self._orphanage = Orphanage(adopt=adopt)
        self._engine_nursery = Nursery(
            ["gsop.engine.process", backend], for_engines(os.environ), self._orphanage
        )
        self._front_nursery = Nursery(
            ["gsop.serving.decoder", *front_modules], for_fronts(os.environ), self._orphanage
        )
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._engines: list[Child] = []
        self._fronts: list[Child] = []
        self._incarnations = [1] * self.arena.deployment.fronts
        self._listeners: list[socket.socket] = []
        self._http: socket.socket | None = None
        self._beater = threading.Thread(target=self._beat, name="beat", daemon=True)

    def __enter__(self) -> Self:
        self._beater.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._ended.set()
        self._beater.join()
        for listener in self._listeners:
            listener.close()
        self.arena.close()
        if self._folder:
            self._folder.cleanup()

    def start_engines(self) -> None:
        """Start one engine a device."""
        for engine in range(self.arena.deployment.engines):
            listener = listen(self.arena.deployment.engine_address(engine))
            self._listeners.append(listener)
            child = Child(
                f"engine {engine}",
                self._engine_nursery,
                partial(self._engine_birth, engine, listener),
                partial(self._engine_died, engine),
            )
            self._engines.append(child)
            child.start()

    def start_fronts(self, entry: str, listener: socket.socket) -> None:
        """Start the processes that speak to the outside, each over the listening socket."""
        self._http = listener
        for front in range(self.arena.deployment.fronts):
            child = Child(
                f"front {front}",
                self._front_nursery,
                partial(self._front_birth, front, entry, listener),
                partial(self._front_died, front),
                self._hand_line,
            )
            self._fronts.append(child)
            child.start()

    def fork_decoder(self, birth: Birth) -> None:
        """Have a decoder forked, for a front in this process; raises OSError if none can be had."""
        self._front_nursery.fork_unwatched(birth)

    def wait(self) -> None:
        """Until :meth:`request_stop`, or until the service turns out not to be able to start."""
        self._stop.wait()

    def request_stop(self) -> None:
        """End :meth:`wait`; safe in a signal handler. Readiness goes off at once."""
        self._own_board.enter(Phase.LEAVING)
        self._stop.set()

    def stop(self) -> bool:
        """Drain and end everything; whether all went by itself within ``GSOP_DRAIN_SECONDS``."""
        if self.failure is None and self._fronts:
            self._own_board.enter(Phase.LEAVING)
            time.sleep(self._settings.drain_delay_seconds)
            if self._http is not None:
                turn_away(self._http)
        self._own_board.enter(Phase.DRAINING)
        for front in self._fronts:
            front.retire()
        if self._http is not None:
            self._http.close()  # or new connections would wait in a queue that nobody serves
        clean = self._end(self._fronts, Child.terminate, self._settings.drain_seconds + 1)
        # Only now: what was in flight needed the engines, and their successors if they died.
        clean &= self._end(self._engines, Child.end_lifeline, LEAVE_SECONDS)
        self._fronts, self._engines = [], []
        self._front_nursery.close()
        self._engine_nursery.close()
        return clean

    @staticmethod
    def _end(children: list[Child], ask: Callable[[Child], None], seconds: float) -> bool:
        for child in children:
            ask(child)
        deadline = time.monotonic() + seconds
        gone = [child.wait(deadline - time.monotonic()) for child in children]
        for child, is_gone in zip(children, gone, strict=True):
            if not is_gone:
                log.error("%s did not leave in %.0f s and is killed", child.name, seconds)
                child.signal(signal.SIGKILL)
                child.wait(LEAVE_SECONDS)
        return all(gone)

    def _beat(self) -> None:
        """Show that the supervisor lives, bury orphans, and end engines that hang."""
        while not self._ended.wait(BEAT_SECONDS):
            self._own_board.show_life()
            self._orphanage.bury()
            now = time.monotonic_ns()
            for number, engine in enumerate(self._board.engines()):
                since = engine.busy_since
                if since and now - since > self._settings.hang_seconds * 1e9:
                    log.error("engine %d hangs in a batch and is killed", number)
                    self._engines[number].signal(signal.SIGKILL)

    def _engine_birth(self, engine: int, listener: socket.socket) -> Birth:
        return Birth(
            f"gsop-engine-{engine}",
            "gsop.engine.process:main",
            [engine, self._own_board.incarnation(engine)],
            [self.arena.fd, listener.fileno()],
        )

    def _engine_died(self, engine: int, ending: Ending) -> bool:
        status = self._board.engine(engine)
        was_ready = status.state == EngineState.READY
        if ending.reason is not None and not status.epoch:
            self._engines[engine].retire()
            self._fail(ending.reason)
        elif ending.reason is not None:
            log.error("engine %d cannot start: %s", engine, ending.reason)
        self._own_board.engine_died(engine, was_ready=was_ready)
        return was_ready

    def _front_birth(self, front: int, entry: str, listener: socket.socket) -> Birth:
        return Birth(
            f"gsop-front-{front}",
            entry,
            [front, self._incarnations[front]],
            [self.arena.fd, listener.fileno()],
            line=True,
        )

    def _front_died(self, front: int, ending: Ending) -> bool:
        incarnation = self._incarnations[front]
        self._incarnations[front] += 1
        if self._board.serving_incarnation(front) == incarnation:
            return True
        has_served = any(map(self._board.serving_incarnation, range(len(self._fronts))))
        if ending.reason is not None and not has_served:
            self._fail(ending.reason)
        elif ending.reason is not None:
            log.error("front %d cannot start: %s", front, ending.reason)
        elif not has_served and incarnation >= MOST_FRONT_FAILURES:
            self._fail(f"front {front} cannot start ({ending}): the log says why")
        return False

    def _hand_line(self, front: Child) -> None:
        """The nursery of the decoders has died, and the front lives: it asks the next one."""
        try:
            with self._front_nursery.line() as line:
                front.hand(LINE, line)
        except OSError as error:
            log.error("%s gets no decoders any more and is replaced: %s", front.name, error)
            front.signal(signal.SIGTERM)

    def _fail(self, reason: str) -> None:
        """The service cannot start: nothing is tried again."""
        self.failure = self.failure or reason
        for child in (*self._engines, *self._fronts):
            child.retire()
        self._stop.set()


def for_engines(environment: Mapping[str, str]) -> dict[str, str]:
    """An engine's environment: ours without keys; :data:`SPINS`, unless the operator chose."""
    kept = {name: v for name, v in environment.items() if not name.startswith("GSOP_API_KEYS")}
    chosen = "OMP_WAIT_POLICY" in environment
    return ({} if chosen else SPINS) | ONE_THREAD | kept


def for_fronts(environment: Mapping[str, str]) -> dict[str, str]:
    """A front's environment: ours without the settings, keys among them, which the arena holds."""
    kept = {name: v for name, v in environment.items() if not name.startswith("GSOP_")}
    return kept | ONE_THREAD

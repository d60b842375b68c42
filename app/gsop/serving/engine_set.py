"""The engines of one generation, as the supervisor sees them: born, replaced, ended together."""

import logging
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from gsop.arena.board import Board, SeatBoard
from gsop.arena.deployment import Deployment
from gsop.arena.drift_board import DriftBoard
from gsop.arena.layout import Arena
from gsop.arena.messages import listen
from gsop.arena.slot import Autopsy
from gsop.arena.states import EngineState
from gsop.processes.child import Child, end_children
from gsop.processes.nursery import Birth, Ending, Nursery

log = logging.getLogger("gsop.supervisor")

LEAVE_SECONDS = 5.0
"""How long an engine may take to leave once nothing waits for it."""

POLL_SECONDS = 0.02


class EngineSet:
    """One generation's arena and engines. Fronts may connect before there are any.

    Args:
        deployment: what the generation is.
        service_fd: the service's memory.
        nursery: forks the engines.
        patient: whether engines that die before they were ever ready are started again; else the
            first such death is the end of the set.
        on_failure: is told why the set cannot be set up, once that is known.

    Raises:
        ConfigError: if there is no memory for the slots.
        OSError: if there are no descriptors.

    Attributes:
        arena: the shared memory.
        board: what the engines tell.
        drift: how far they say that versions have drifted.
        failure: why it cannot be set up.
        deaths: how often an engine died while it ran a batch of a version, by the version's place.
    """

    def __init__(
        self,
        deployment: Deployment,
        service_fd: int,
        nursery: Nursery,
        *,
        patient: bool,
        on_failure: Callable[[str], None],
    ) -> None:
        self.arena = Arena.create(deployment)
        self.board = Board(self.arena)
        self.drift = DriftBoard(self.arena)
        self.failure: str | None = None
        self.deaths: Counter[int] = Counter()
        self._seats = SeatBoard(self.arena)
        self._autopsy = Autopsy(self.arena)
        self._service_fd = service_fd
        self._nursery = nursery
        self._patient = patient
        self._on_failure = on_failure
        self._engines: list[Child] = []
        self._listeners: list[socket.socket] = []
        try:
            for engine in range(deployment.engines):
                self._listeners.append(listen(deployment.engine_address(engine)))
        except OSError:
            self.end()
            self.close()
            raise

    @property
    def deployment(self) -> Deployment:
        """What the generation is."""
        return self.arena.deployment

    def start(self) -> None:
        """Start one engine a device."""
        for engine, listener in enumerate(self._listeners):
            child = Child(
                f"engine {engine}",
                self._nursery,
                partial(self._birth, engine, listener),
                partial(self._died, engine),
            )
            self._engines.append(child)
            child.start()

    def wait_ready(self, seconds: float, given_up: Callable[[], bool]) -> bool:
        """Whether all engines have become ready, before time was up or another reason came."""
        deadline = time.monotonic() + seconds
        everyone = range(self.deployment.engines)
        while not all(map(self.board.is_ready, everyone)):
            if self.failure is not None or given_up() or time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def hand(self, engine: int, message: bytes, descriptor: int) -> None:
        """Give an engine a message and a descriptor.

        Raises:
            OSError: if it has ended.
        """
        self._engines[engine].hand(message, descriptor)

    def kill_hung(self, seconds: float) -> None:
        """Kill engines that have stood still for longer: their successors take over.

        Either in a batch, or without one: somebody has stopped the process, or its loop is dead.
        """
        now = time.monotonic_ns()
        for number, engine in enumerate(self.board.engines()):
            since = engine.busy_since
            if since and now - since > seconds * 1e9:
                log.error("engine %d hangs in a batch and is killed", number)
                self._engines[number].signal(signal.SIGKILL)
            elif (
                not since
                and engine.state == EngineState.READY
                and now - engine.beat > seconds * 1e9
            ):
                log.error("engine %d stands still without a batch and is killed", number)
                self._engines[number].signal(signal.SIGKILL)

    def retire(self) -> None:
        """Start no engine again."""
        for engine in self._engines:
            engine.retire()

    def end(self) -> bool:
        """End the engines; whether all left by themselves. Nothing of theirs is left afterwards."""
        clean = end_children(self._engines, Child.end_lifeline, LEAVE_SECONDS)
        for listener in self._listeners:
            listener.close()
        self._engines, self._listeners = [], []
        return clean

    def close(self) -> None:
        """Give the arena back."""
        self.arena.close()

    def _birth(self, engine: int, listener: socket.socket) -> Birth:
        return Birth(
            f"gsop-engine-{engine}",
            "gsop.engine.process:main",
            [engine, self._seats.incarnation(engine)],
            [self._service_fd, self.arena.fd, listener.fileno()],
        )

    def _died(self, engine: int, ending: Ending) -> bool:
        status = self.board.engine(engine)
        was_ready = status.state == EngineState.READY
        self.deaths.update(map(self.deployment.place, self._autopsy.models(engine)))
        if not status.epoch and (ending.reason is not None or not self._patient):
            self.failure = self.failure or ending.reason or f"engine {engine}: {ending}"
            self.retire()
            self._on_failure(self.failure)
        elif ending.reason is not None:
            log.error("engine %d cannot start: %s", engine, ending.reason)
        self._seats.engine_died(engine, was_ready=was_ready)
        return was_ready

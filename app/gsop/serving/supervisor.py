"""The parent of all: makes the arena, starts engines and fronts, replaces what dies, drains.

It never touches a request. Each child holds the read end of a pipe (its standard input) whose
write end only the supervisor has; when the supervisor dies, however it dies, every child sees the
end of that pipe and goes too.
"""

import logging
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Self

from gsop.arena.counters import COUNTERS
from gsop.arena.layout import EXIT_SETUP, Arena, Deployment, EngineState, Phase
from gsop.arena.messages import address_prefix, listen
from gsop.processes.listener import turn_away
from gsop.processes.nursery import Nursery, Process
from gsop.settings import Settings
from gsop.store.manifest import Manifest

log = logging.getLogger("gsop.supervisor")

BEAT_SECONDS = 0.5
LEAVE_SECONDS = 5.0
"""How long an engine may take to leave once nothing waits for it."""

BACKOFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Pause before a child is started again, by how often in a row it died before it was well."""


def describe_exit(status: int) -> str:
    """A process's end in words: its exit status or the signal that killed it."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"


class Child:
    """A process that is started again when it dies, watched by a thread of its own."""

    def __init__(
        self,
        name: str,
        spawn: Callable[[], Process],
        on_death: Callable[[int], bool],
    ) -> None:
        """Prepare.

        Args:
            name: for the log.
            spawn: starts it; its standard input is its lifeline.
            on_death: is told the exit status; says whether the process had been well, in which
                case it is started again at once.
        """
        self.name = name
        self._start_process = spawn
        self._on_death = on_death
        self._retired = threading.Event()
        self._lock = threading.Lock()
        self._process: Process | None = None
        self._thread = threading.Thread(target=self._watch, name=name, daemon=True)

    def start(self) -> None:
        """Start the process, and from now on again whenever it dies."""
        self._thread.start()

    def signal(self, number: int) -> None:
        """Send a signal to the process, if it lives."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(number)

    def retire(self) -> None:
        """Do not start it again."""
        self._retired.set()

    def terminate(self) -> None:
        """Send SIGTERM, and do not start it again."""
        self.retire()
        self.signal(signal.SIGTERM)

    def end_lifeline(self) -> None:
        """Close its standard input, so that it leaves by itself, and do not start it again."""
        self.retire()
        with self._lock:
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.close()

    def wait(self, seconds: float) -> bool:
        """Whether it was gone within ``seconds``."""
        self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def _watch(self) -> None:
        failures = 0
        while not self._retired.is_set():
            try:
                process = self._spawn()
            except OSError as error:  # no memory, no processes or descriptors left
                end, was_well = str(error), False
            else:
                if process is None:
                    return
                status = process.wait()
                if process.stdin is not None:
                    process.stdin.close()
                if self._retired.is_set():
                    return
                end, was_well = describe_exit(status), self._on_death(status)
            failures = 0 if was_well else failures + 1
            pause = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)]
            log.error("%s ended (%s); next start in %.1f s", self.name, end, pause)
            self._retired.wait(pause)

    def _spawn(self) -> Process | None:
        with self._lock:
            if self._retired.is_set():
                return None
            self._process = self._start_process()
            return self._process


class Supervisor:
    """The service's processes. A context manager: what was started is gone at its end.

    Attributes:
        arena: the shared memory.
        failure: why the service cannot start, once that is known.
    """

    def __init__(self, settings: Settings, manifests: Sequence[Manifest]) -> None:
        self._folder = (
            tempfile.TemporaryDirectory(prefix="gsop-") if sys.platform != "linux" else None
        )
        prefix = address_prefix(secrets.token_hex(8), self._folder.name if self._folder else "")
        self.arena = Arena.create(
            Deployment(
                settings=settings, manifests=tuple(manifests), address=prefix, counters=COUNTERS
            )
        )
        self.failure: str | None = None
        self._settings = settings
        self._nursery = Nursery()
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._engines: list[Child] = []
        self._fronts: list[Child] = []
        self._listeners: list[socket.socket] = []
        self._http: socket.socket | None = None
        self._beater = threading.Thread(target=self._beat, name="beat", daemon=True)

    def __enter__(self) -> Self:
        self.arena.service["beat"] = time.monotonic_ns()
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
                partial(self._nursery.fork, engine, self.arena.fd, listener.fileno()),
                partial(self._engine_died, engine),
            )
            self._engines.append(child)
            child.start()

    def start_fronts(self, command: Sequence[str], listener: socket.socket) -> None:
        """Start the HTTP processes; ``command`` is given the arena, its number and the listener."""
        self._http = listener
        for front in range(self.arena.deployment.fronts):
            fds = (self.arena.fd, listener.fileno())
            child = Child(
                f"front {front}",
                partial(_run, [*command, str(fds[0]), str(front), str(fds[1])], fds),
                partial(self._front_died, front),
            )
            self._fronts.append(child)
            child.start()

    def wait(self) -> None:
        """Until :meth:`request_stop`, or until the service turns out not to be able to start."""
        self._stop.wait()

    def request_stop(self) -> None:
        """End :meth:`wait`; safe in a signal handler. Readiness goes off at once."""
        self.arena.service["phase"] = max(Phase.LEAVING, self.arena.phase)
        self._stop.set()

    def stop(self) -> bool:
        """Drain and end everything; whether all went by itself within ``GSOP_DRAIN_SECONDS``."""
        if self.failure is None and self._fronts:
            self.arena.service["phase"] = Phase.LEAVING
            time.sleep(self._settings.drain_delay_seconds)
            if self._http is not None:
                turn_away(self._http)
        self.arena.service["phase"] = Phase.DRAINING
        for front in self._fronts:
            front.retire()
        if self._http is not None:
            self._http.close()  # or new connections would wait in a queue that nobody serves
        clean = self._end(self._fronts, Child.terminate, self._settings.drain_seconds + 1)
        # Only now: what was in flight needed the engines, and their successors if they died.
        clean &= self._end(self._engines, Child.end_lifeline, LEAVE_SECONDS)
        self._fronts, self._engines = [], []
        self._nursery.close()
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
        """Show that the supervisor lives, and end engines that hang."""
        while not self._ended.wait(BEAT_SECONDS):
            now = time.monotonic_ns()
            self.arena.service["beat"] = now
            for engine, since in enumerate(self.arena.engines["busy_since"].tolist()):
                if since and now - since > self._settings.hang_seconds * 1e9:
                    log.error("engine %d hangs in a batch and is killed", engine)
                    self._engines[engine].signal(signal.SIGKILL)

    def _engine_died(self, engine: int, status: int) -> bool:
        record = self.arena.engines[engine : engine + 1]
        was_ready = record["state"] == EngineState.READY
        if status == EXIT_SETUP and not record["epoch"]:
            self._engines[engine].retire()
            self.failure = record["reason"][0].decode()
            self._stop.set()
        elif status == EXIT_SETUP:
            log.error("engine %d cannot start: %s", engine, record["reason"][0].decode())
        record["state"] = EngineState.STARTING if was_ready else EngineState.FAILED
        record["busy_since"] = 0
        record["restarts"] += 1
        return bool(was_ready)

    def _front_died(self, front: int, _status: int) -> bool:
        was_well = bool(self.arena.fronts["serving"][front])
        self.arena.fronts["serving"][front] = False
        return was_well


def _run(command: Sequence[str], descriptors: Sequence[int]) -> subprocess.Popen[bytes]:
    # A group of its own: a terminal's Ctrl-C reaches the supervisor alone, which then stops its
    # children in the right order.
    return subprocess.Popen(  # noqa: S603  # our own command
        command, stdin=subprocess.PIPE, pass_fds=descriptors, process_group=0
    )

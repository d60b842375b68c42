"""Where children are born: a process that has everything imported already, and forks.

Importing torch takes seconds, fastapi and its like one: most of what clients would wait for when a
process dies. A forked child has only its own work to begin::

    owner ─── name, entry, arguments, descriptors ──▶ nursery ── fork ──▶ child
      ▲                                                  │                  │
      └──────────── pid, reason, exit status ────────────┴────── wait ──────┘

The nursery computes nothing and touches no device, so each child begins as clean as a process that
was started anew. docs/architecture.md tells why it is not :mod:`multiprocessing`'s fork server.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gsop.processes.forks import EXIT_SETUP
from gsop.processes.launch import launch
from gsop.processes.lifeline import make_lifeline
from gsop.processes.orphans import Orphanage

LEAVE_SECONDS = 10.0
"""How long a nursery may take to leave once it was told to: as long as its last child."""

_MESSAGE_BYTES = 1 << 16


class Ending(NamedTuple):
    """How a process ended.

    Attributes:
        status: its exit status, or the negative number of the signal that killed it.
        reason: the mistake for which it could not be set up, if it was one.
    """

    status: int
    reason: str | None = None

    def __str__(self) -> str:
        """In words."""
        if self.status < 0:
            return f"killed by {signal.Signals(-self.status).name}"
        return f"exit status {self.status}"


class Report:
    """Where a nursery tells what becomes of one child: first its pid, at last its exit status.

    Attributes:
        socket: over which it tells; when it can be read, there is something to :meth:`read`.
        pid: once it has been told.
        status: as :class:`Ending` has it, once it has been told.
        is_over: whether nothing more will be told: it has ended, or the nursery has.
    """

    def __init__(self, socket: socket.socket) -> None:
        self.socket = socket
        self.pid: int | None = None
        self.status: int | None = None
        self.is_over = False

    def read(self) -> None:
        """Take in what is told next.

        Raises:
            BlockingIOError: if nothing has been told, and the socket does not wait for it.
        """
        message = self.socket.recv(_MESSAGE_BYTES)
        told: dict[str, int] = json.loads(message) if message else {}
        self.pid = told.get("pid", self.pid)
        self.status = told.get("status", self.status)
        self.is_over = not message or self.status is not None

    def kill(self) -> None:
        """End the child, if it lives and its pid has been told; for a socket that does not wait."""
        with contextlib.suppress(BlockingIOError):
            while not self.is_over:
                self.read()
        if self.pid is not None and self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


class Birth(NamedTuple):
    """What a child is to be.

    Attributes:
        name: what ``ps`` shows; at most 15 characters.
        entry: ``module:function`` that it runs.
        arguments: JSON values that the function is given first.
        descriptors: files that it is given after them, under numbers of its own.
        line: whether it may have children forked itself; then it is given a :class:`Line` last.
    """

    name: str
    entry: str
    arguments: Sequence[Any] = ()
    descriptors: Sequence[int] = ()
    line: bool = False


class Line:
    """A way to have children forked. Whoever holds it may ask.

    Attributes:
        socket: to the nursery.
    """

    def __init__(self, socket: socket.socket) -> None:
        self.socket = socket

    def fork(self, birth: Birth, *, lifeline: bool = False) -> Report:
        """Ask for a child; where the nursery will tell what becomes of it.

        Args:
            birth: what it is to be.
            lifeline: whether its first descriptor is one.

        Raises:
            OSError: if the nursery is gone, or there are no descriptors to be had.
        """
        report, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                request = birth._asdict() | {"descriptors": None, "lifeline": lifeline}
                descriptors = [theirs.fileno(), *birth.descriptors]
                socket.send_fds(self.socket, [json.dumps(request).encode()], descriptors)
            except OSError:
                report.close()
                raise
        return Report(report)

    def add(self, line: socket.socket) -> None:
        """Have the nursery take requests from another line, too; raises as :meth:`fork`."""
        socket.send_fds(self.socket, [b"null"], [line.fileno()])

    def close(self) -> None:
        """Ask no more."""
        self.socket.close()


class Nursery:
    """The owner's side. Its process is started when it is needed, and again if it died.

    Args:
        modules: what it has imported, and with ``module:function`` also called, before it forks.
        environment: of it and its children.
        orphanage: waits for its children where it has died.
    """

    def __init__(
        self, modules: Sequence[str], environment: Mapping[str, str], orphanage: Orphanage
    ) -> None:
        self.orphanage = orphanage
        self._modules = modules
        self._environment = environment
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: Line | None = None

    def fork(self, birth: Birth) -> "Forked":
        """A child with a lifeline, which it is given before the other descriptors.

        Raises:
            OSError: if there are no descriptors, or no processes, to be had.
        """
        ours, theirs = make_lifeline()
        with theirs:
            try:
                descriptors = [theirs.fileno(), *birth.descriptors]
                with self._lock:
                    report = self._asked(birth._replace(descriptors=descriptors), lifeline=True)
            except OSError:
                ours.close()
                raise
        return Forked(report, ours, self.orphanage)

    def fork_without_lifeline(self, birth: Birth) -> Report:
        """A child that learns elsewhere when it is to leave; raises as :meth:`fork`."""
        with self._lock:
            return self._asked(birth, lifeline=False)

    def line(self) -> socket.socket:
        """A way for another process to have children forked here; raises as :meth:`fork`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                with self._lock:
                    try:
                        self._started().add(theirs)
                    except ConnectionError:  # it was killed
                        self._end()
                        self._started().add(theirs)
            except OSError:
                ours.close()
                raise
        return ours

    def close(self) -> None:
        """Let the process go; its children are gone, or about to go."""
        with self._lock:
            self._end()

    def _asked(self, birth: Birth, *, lifeline: bool) -> Report:
        try:
            return self._started().fork(birth, lifeline=lifeline)
        except ConnectionError:  # it was killed
            self._end()
            return self._started().fork(birth, lifeline=lifeline)

    def _started(self) -> Line:
        if self._control is None:
            control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                arguments = [str(theirs.fileno()), *self._modules]
                self._process = self.orphanage.bear(
                    lambda: launch(
                        "gsop.processes.forks", arguments, [theirs.fileno()], self._environment
                    )
                )
            self._control = Line(control)
        return self._control

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(LEAVE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self.orphanage.forget(self._process.pid)
            self._process = None


class Forked:
    """A process that a nursery forked. One thread must be in :meth:`wait` all the time.

    Attributes:
        lifeline: the owner's end.
    """

    def __init__(self, report: Report, lifeline: socket.socket, orphanage: Orphanage) -> None:
        self.lifeline = lifeline
        self._report = report
        self._orphanage = orphanage
        self._pid: int | None = None
        self._early: list[int] = []
        self._ended = False

    def wait(self, on_orphaned: Callable[[], None]) -> Ending:
        """How it ended, once it has.

        Args:
            on_orphaned: is called if its nursery is gone and it lives on.
        """
        report = self._report
        with report.socket, self.lifeline:
            report.read()
            if report.pid is not None:
                self._orphanage.expect(report.pid)
                self._be_born(report.pid)
                report.read()
            status = self._wait_as_orphan(on_orphaned) if report.status is None else report.status
            self._ended = True
            reason = self._reason() if status == EXIT_SETUP else None
        if self._pid is not None:
            self._orphanage.forget(self._pid)
        return Ending(status, reason)

    def _reason(self) -> str | None:
        self.lifeline.setblocking(False)
        with contextlib.suppress(OSError):
            if message := self.lifeline.recv(_MESSAGE_BYTES):
                return str(json.loads(message)["reason"])
        return None

    def _wait_as_orphan(self, on_orphaned: Callable[[], None]) -> int:
        if self._pid is None:  # the nursery died before it was born
            return -signal.SIGKILL
        if self._orphanage.adopts:
            on_orphaned()
        return self._orphanage.wait(self._pid)

    def _be_born(self, pid: int) -> None:
        self._pid = pid
        for number in self._early:
            self.send_signal(number)

    def send_signal(self, number: int) -> None:
        """Signal it, if it lives; as soon as it does, if it is not born yet."""
        if self._pid is None:
            self._early.append(number)
        elif not self._ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def end_lifeline(self) -> None:
        """Have it leave by itself."""
        with contextlib.suppress(OSError):
            self.lifeline.shutdown(socket.SHUT_RDWR)

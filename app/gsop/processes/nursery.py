"""Where engines are born: a process that has torch imported already, and forks.

Importing torch takes seconds of CPU, several on a busy machine, and that would be the most part of
what clients wait when an engine dies. A forked engine has only its weights to load::

    supervisor ── number, descriptors ──▶ nursery ── fork ──▶ engine
        ▲                                   │                   │
        └────────── pid, exit status ───────┴──── wait ─────────┘

The nursery itself loads no model, touches no device (CUDA does not survive a fork) and runs no
tensor operation (nor do threads). Nothing of one engine can reach the next through it.
"""

import contextlib
import gc
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import IO, NoReturn, Protocol, cast

_REQUEST = struct.Struct("<I")
"""Number of the engine; with it come its arena, listener, lifeline and report."""

_REPORT = struct.Struct("<i")
"""First the pid, at the end the exit status as :class:`subprocess.Popen` has it."""

SPINS = {"GOMP_SPINCOUNT": "10000"}
"""How long a thread of a forward that waits for the others keeps its processor: some 20 µs.

Without the bound it is milliseconds, and where there are fewer processors than threads just then (a
front wants one, a container has a quota) that is the processor that the others need: a ResNet-50's
forward took up to 18 times its time (docs/performance.md)."""

LEAVE_SECONDS = 5.0
"""How long the nursery may take to leave once its engines have."""


def environment() -> dict[str, str]:
    """Of a process that computes: ours, with :data:`SPINS` unless the operator chose otherwise."""
    chosen = "OMP_WAIT_POLICY" in os.environ
    return ({} if chosen else SPINS) | dict(os.environ)


class Process(Protocol):
    """As much of :class:`subprocess.Popen` as the supervisor uses."""

    stdin: IO[bytes] | None

    def poll(self) -> int | None:
        """Its exit status, or ``None`` while it lives."""

    def wait(self) -> int:
        """Its exit status, once it is gone."""

    def send_signal(self, sig: int, /) -> None:
        """Signal it, if it lives."""


class Forked:
    """A process that the nursery forked. One thread must be in :meth:`wait` all the time."""

    def __init__(self, report: socket.socket, lifeline: IO[bytes]) -> None:
        self.stdin: IO[bytes] | None = lifeline
        self._report = report
        self._pid: int | None = None
        self._status: int | None = None

    def poll(self) -> int | None:
        """Its exit status, or ``None`` while it lives."""
        return self._status

    def wait(self) -> int:
        """Its exit status, once it is gone."""
        with self._report:
            self._pid = self._read()
            status = self._read()
        if status is None:
            # The nursery is gone: nobody would say when this one ends, so it ends now.
            self.send_signal(signal.SIGKILL)
            status = -signal.SIGKILL
        self._status = status
        return status

    def send_signal(self, sig: int, /) -> None:
        """Signal it, if it lives."""
        if self._pid is not None and self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, sig)

    def _read(self) -> int | None:
        data = self._report.recv(_REPORT.size, socket.MSG_WAITALL)
        return cast("int", _REPORT.unpack(data)[0]) if len(data) == _REPORT.size else None


class Nursery:
    """The supervisor's side. It starts the process when it is needed, and again if it died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def fork(self, engine: int, arena_fd: int, listener_fd: int) -> Forked:
        """A new process for the engine of that number.

        Raises:
            OSError: if there are no descriptors, or no processes, to be had.
        """
        lifeline, ours = os.pipe()
        stdin = os.fdopen(ours, "wb", 0)
        report, theirs = socket.socketpair()
        try:
            self._request(engine, [arena_fd, listener_fd, lifeline, theirs.fileno()])
        except OSError:
            stdin.close()
            report.close()
            raise
        finally:
            os.close(lifeline)
            theirs.close()
        return Forked(report, stdin)

    def close(self) -> None:
        """Let the process go; its engines are gone before."""
        with self._lock:
            self._end()

    def _request(self, engine: int, descriptors: list[int]) -> None:
        message = [_REQUEST.pack(engine)]
        with self._lock:
            try:
                socket.send_fds(self._started(), message, descriptors)
            except ConnectionError:  # it was killed
                self._end()
                socket.send_fds(self._started(), message, descriptors)

    def _started(self) -> socket.socket:
        if self._control is None:
            control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603  # our own command
                    [sys.executable, "-m", "gsop.processes.nursery", str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=environment(),
                    process_group=0,
                )
            self._control = control
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
            self._process = None


# ── the process ──────────────────────────────────────────────────────────────────────────────────


def main() -> None:
    """Fork for each request on the control socket, tell of each end, until the supervisor is gone.

    ``python -m gsop.processes.nursery CONTROL_FD``.
    """
    control = socket.socket(fileno=int(sys.argv[1]))
    # The supervisor alone says when engines end, by closing their lifelines.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import gsop.engine.process  # noqa: F401  # here, for it is what takes seconds

    gc.freeze()  # or the first collection in each engine would copy every page
    reports: dict[int, int] = {}
    woken, wake = socket.socketpair()
    for end in (woken, wake):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # only to have the wake-up below
    signal.set_wakeup_fd(wake.fileno())
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is woken:
                    with contextlib.suppress(BlockingIOError):
                        woken.recv(4096)
                    _tell(reports)
                    continue
                message, descriptors, _, _ = socket.recv_fds(control, _REQUEST.size, 4)
                if not message:
                    return
                pid = _fork()
                if pid == 0:
                    for taken in (control, woken, wake, selector):
                        taken.close()
                    for report in reports.values():
                        os.close(report)
                    _be_engine(_REQUEST.unpack(message)[0], *descriptors)
                *others, report = descriptors
                for descriptor in others:
                    os.close(descriptor)
                reports[pid] = report
                _write(report, pid)


def _tell(reports: dict[int, int]) -> None:
    """Report each child that has ended."""
    while reports:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        report = reports.pop(pid)
        _write(report, os.waitstatus_to_exitcode(status))
        os.close(report)


def _write(report: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # the supervisor is gone
        os.write(report, _REPORT.pack(number))


def _fork() -> int:
    with warnings.catch_warnings():
        # "multi-threaded": numpy's BLAS has threads, which it ends and begins anew around a fork.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _be_engine(engine: int, arena: int, listener: int, lifeline: int, report: int) -> NoReturn:
    from gsop.engine import process

    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(report)
        os.dup2(lifeline, sys.stdin.fileno())
        os.close(lifeline)
        with contextlib.suppress(OSError):  # what `ps` and `top` show
            Path("/proc/self/comm").write_text(f"gsop-engine-{engine}", encoding="ascii")
        process.main(arena, engine, listener)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001  # nothing may run on as a second nursery
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()

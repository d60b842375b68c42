"""The process that a nursery is: it has modules imported, and forks a child for each request.

    python -m gsop.processes.forks CONTROL_FD MODULE[:FUNCTION]...

A request is a JSON object and descriptors. Through the first of these whoever asked is told the
child's pid and at last its exit status; the others are the child's. Requests come over *lines*: the
owner's, with which the nursery ends, and those that the owner had it take.
"""

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from gsop.errors import SetupError
from gsop.processes.syscalls import prctl

EXIT_SETUP = 3
"""Exit status of a child for a mistake that starting it again does not mend."""

_NOT_OURS = (signal.SIGTERM, signal.SIGINT)
"""The supervisor alone says when its processes end. Blocked, not ignored: one that is sent to a
child in the moment of its birth is not lost."""

_PR_SET_NAME = 15

MOST_BYTES = 1 << 17
MOST_DESCRIPTORS = 8


class Forks:
    """The nursery's loop."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._reports: dict[int, socket.socket] = {}
        self._woken, self._wake = socket.socketpair()
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Serve until the owner is gone, and then until the last child is."""
        for end in (self._woken, self._wake):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to have the wake-up below
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._selector.register(self._control, selectors.EVENT_READ)
        try:
            self._loop()
        finally:
            # A signal at the end of the interpreter would find the wake-up closed, and say so.
            signal.set_wakeup_fd(-1)

    def _loop(self) -> None:
        while self._control.fileno() >= 0 or self._reports:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    self._tell_ends()
                else:
                    assert isinstance(key.fileobj, socket.socket)  # noqa: S101  # the lines are
                    self._serve(key.fileobj)

    def _serve(self, line: socket.socket) -> None:
        try:
            message, descriptors, _, _ = socket.recv_fds(line, MOST_BYTES, MOST_DESCRIPTORS)
        except ConnectionError:
            message, descriptors = b"", []
        if not message:
            self._selector.unregister(line)
            line.close()
            return
        request = json.loads(message)
        if request is None:
            self._selector.register(socket.socket(fileno=descriptors[0]), selectors.EVENT_READ)
            return
        report = socket.socket(fileno=descriptors.pop(0))
        if request["line"]:
            line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._selector.register(line, selectors.EVENT_READ)
            descriptors.append(theirs.detach())
        pid = _fork()
        if pid == 0:
            self._leave_to_parent()
            report.close()
            _be(request, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        self._reports[pid] = report
        _tell(report, pid=pid)

    def _leave_to_parent(self) -> None:
        """In a child: close what is the nursery's, lines above all, and take signals as usual."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _NOT_OURS)  # what came since the fork counts
        lines = [key.fileobj for key in self._selector.get_map().values()]
        self._selector.close()
        for taken in (*lines, self._wake, *self._reports.values()):
            assert isinstance(taken, socket.socket)  # noqa: S101  # nothing else is registered
            taken.close()

    def _tell_ends(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        while self._reports:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with self._reports.pop(pid) as report:
                _tell(report, status=os.waitstatus_to_exitcode(status))


def _tell(whom: socket.socket, **members: Any) -> None:
    with contextlib.suppress(OSError):  # nobody wants to know
        whom.send(json.dumps(members).encode())


def _call_itself(name: str) -> None:
    """What `ps` and `top` show; at most 15 characters."""
    with contextlib.suppress(OSError):
        prctl(_PR_SET_NAME, name.encode())


def _fork() -> int:
    with warnings.catch_warnings():
        # "multi-threaded": numpy's BLAS has threads, which it ends and begins anew around a fork.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _be(request: dict[str, Any], descriptors: Sequence[int]) -> NoReturn:
    """Be the child that was asked for; what cannot be set up is told through its lifeline."""
    status = 1
    try:
        _call_itself(request["name"])
        module, _, function = request["entry"].partition(":")
        getattr(import_module(module), function)(*request["arguments"], *descriptors)
        status = 0
    except SetupError as error:
        status = EXIT_SETUP
        if request["lifeline"]:
            with socket.socket(fileno=os.dup(descriptors[0])) as lifeline:
                _tell(lifeline, reason=str(error))
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:  # noqa: BLE001  # nothing may run on as a second nursery
        sys.excepthook(type(error), error, error.__traceback__)  # the log's, if there is one
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Be a nursery."""
    control = socket.socket(fileno=int(sys.argv[1]))
    _call_itself("gsop-nursery")
    signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_OURS)
    for name in sys.argv[2:]:
        module, _, function = name.partition(":")
        with contextlib.suppress(ImportError, SetupError):  # the child that needs it will say so
            imported = import_module(module)
            if function:
                getattr(imported, function)()
    gc.freeze()  # or the first collection in each child would copy every page
    Forks(control).run()


if __name__ == "__main__":
    main()

"""Processes whose parent is gone, and who buries them.

Children of the service are forked by nurseries. When a nursery is killed its children go to the
next *subreaper* above it (prctl(2)), else to process 1. The supervisor makes itself that subreaper:
it learns how they end, and as process 1 of a container, where every orphan comes to it anyhow, it
leaves no zombies.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

_PR_SET_CHILD_SUBREAPER = 36

ADOPTION_SECONDS = 5.0
"""An orphan comes to its subreaper when the kernel has done with its parent: in a moment."""

_POLL_SECONDS = 0.01


class Orphanage:
    """The supervisor's children, its own and adopted ones. Used by several threads.

    Attributes:
        adopts: whether orphans come to this process.
    """

    def __init__(self, *, adopt: bool) -> None:
        """Prepare.

        Args:
            adopt: whether to become the subreaper, for as long as this process lives. Not in a
                process that is somebody else's, who may have children of their own.
        """
        self.adopts = adopt and _become_subreaper()
        self._awaited: set[int] = set()
        self._lock = threading.Lock()

    def bear(self, start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        """Start a child whose end somebody will wait for, so that :meth:`bury` leaves it alone."""
        with self._lock:
            child = start()
            self._awaited.add(child.pid)
            return child

    def expect(self, pid: int) -> None:
        """Somebody will wait for this process, which a nursery forked, if it is orphaned."""
        with self._lock:
            self._awaited.add(pid)

    def forget(self, pid: int) -> None:
        """It has ended, or nobody waits for it any more."""
        with self._lock:
            self._awaited.discard(pid)

    def wait(self, pid: int) -> int:
        """Wait for a process whose nursery is gone; its status as :class:`subprocess.Popen` has it.

        Where orphans do not come here nobody could tell when it ends, so it is ended now.
        """
        if self.adopts:
            deadline = time.monotonic() + ADOPTION_SECONDS
            while time.monotonic() < deadline:
                with contextlib.suppress(ChildProcessError):
                    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                time.sleep(_POLL_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return -signal.SIGKILL

    def bury(self) -> None:
        """Take leave of all orphans that have ended and that nobody waits for."""
        if not self.adopts:
            return
        with self._lock, contextlib.suppress(ChildProcessError):
            while dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if dead.si_pid in self._awaited:
                    return  # who waits for it takes it away; the others are there next time
                os.waitpid(dead.si_pid, os.WNOHANG)


def _become_subreaper() -> bool:
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)

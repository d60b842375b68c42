"""A process that is started again when it dies."""

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence

from gsop.processes.nursery import Birth, Ending, Forked, Nursery

log = logging.getLogger("gsop.supervisor")

BACKOFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Pause before a child is started again, by how often in a row it died before it was well."""

KILL_SECONDS = 5.0
"""How long the kernel may take to end a process."""


class Child:
    """A supervised process, watched by a thread of its own.

    Args:
        name: for the log.
        nursery: forks it.
        birth: what it is to be; called anew for each start.
        on_death: is told how it ended; says whether the process had been well, in which case it is
            started again at once.
        on_orphaned: is called when its nursery has died and it lives on.
    """

    def __init__(
        self,
        name: str,
        nursery: Nursery,
        birth: Callable[[], Birth],
        on_death: Callable[[Ending], bool],
        on_orphaned: Callable[["Child"], None] = lambda _: None,
    ) -> None:
        self.name = name
        self._nursery = nursery
        self._birth = birth
        self._on_death = on_death
        self._on_orphaned = on_orphaned
        self._retired = threading.Event()
        self._lock = threading.Lock()
        self._process: Forked | None = None
        self._thread = threading.Thread(target=self._watch, name=name, daemon=True)

    def start(self) -> None:
        """Start the process, and from now on again whenever it dies."""
        self._thread.start()

    def signal(self, number: int) -> None:
        """Send a signal to the process, if it lives."""
        with self._lock:
            if self._process is not None:
                self._process.send_signal(number)

    def hand(self, message: bytes, descriptor: int) -> None:
        """Give the process a message and a descriptor, through its lifeline.

        Raises:
            OSError: if it has ended.
        """
        with self._lock:
            if self._process is not None:
                socket.send_fds(self._process.lifeline, [message], [descriptor])

    def retire(self) -> None:
        """Do not start it again."""
        self._retired.set()

    def terminate(self) -> None:
        """Send SIGTERM, and do not start it again."""
        self.retire()
        self.signal(signal.SIGTERM)

    def end_lifeline(self) -> None:
        """Have it see the end of its lifeline and leave, and do not start it again."""
        self.retire()
        with self._lock:
            if self._process is not None:
                self._process.end_lifeline()

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
                ending = process.wait(lambda: self._on_orphaned(self))
                if self._retired.is_set():
                    return
                end, was_well = str(ending), self._on_death(ending)
            failures = 0 if was_well else failures + 1
            pause = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)]
            if not self._retired.is_set():
                log.error("%s ended (%s); next start in %.1f s", self.name, end, pause)
            self._retired.wait(pause)

    def _spawn(self) -> Forked | None:
        with self._lock:
            if self._retired.is_set():
                return None
            self._process = self._nursery.fork(self._birth())
            return self._process


def end_children(children: Sequence[Child], ask: Callable[[Child], None], seconds: float) -> bool:
    """Ask children to leave, and kill those that have not within ``seconds``.

    Returns:
        Whether all left by themselves.
    """
    for child in children:
        ask(child)
    deadline = time.monotonic() + seconds
    gone = [child.wait(deadline - time.monotonic()) for child in children]
    for child, is_gone in zip(children, gone, strict=True):
        if not is_gone:
            log.error("%s did not leave in %.0f s and is killed", child.name, seconds)
            child.signal(signal.SIGKILL)
            child.wait(KILL_SECONDS)
    return all(gone)

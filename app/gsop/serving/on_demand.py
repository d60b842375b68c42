"""A process that is there only while it is asked for, as inetd and systemd's sockets have it.

The supervisor holds the listening socket. While there is no such process, a thread waits for
somebody to connect, and then has one forked, which accepts and serves them. It ends when it has
been idle; whoever connects meanwhile waits in the socket's queue for the next one.
"""

import logging
import selectors
import socket
import threading
from collections.abc import Callable

from gsop.arena.messages import listen
from gsop.processes.nursery import Birth, Forked, Nursery

log = logging.getLogger("gsop.supervisor")

PAUSE_SECONDS = 1.0
"""Before another is forked where the last one did not end by itself."""

LEAVE_SECONDS = 5.0


class OnDemand:
    """The owner's side. A context manager: nothing of it is left at its end.

    Args:
        name: for the log.
        address: at which it listens.
        nursery: forks it.
        birth: what it is to be, given the listening socket's descriptor.
    """

    def __init__(
        self, name: str, address: str, nursery: Nursery, birth: Callable[[int], Birth]
    ) -> None:
        self._name = name
        self._nursery = nursery
        self._birth = birth
        self._listener = listen(address)
        self._stopped, self._stop = socket.socketpair()
        self._lock = threading.Lock()
        self._process: Forked | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=name, daemon=True)

    def start(self) -> None:
        """Fork one whenever somebody connects."""
        self._thread.start()

    def end(self) -> None:
        """End it, and listen no more."""
        self._ending.set()
        self._stop.close()
        with self._lock:
            if self._process is not None:
                self._process.end_lifeline()
        if self._thread.is_alive():
            self._thread.join(LEAVE_SECONDS)
        self._listener.close()
        self._stopped.close()

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._stopped, selectors.EVENT_READ)
            while not self._ending.is_set():
                selector.select()
                if not self._ending.is_set() and not self._run():
                    self._ending.wait(PAUSE_SECONDS)

    def _run(self) -> bool:
        """Fork one and wait for its end; whether it ended by itself."""
        try:
            with self._lock:
                if self._ending.is_set():
                    return True
                self._process = process = self._nursery.fork(self._birth(self._listener.fileno()))
            ending = process.wait(lambda: None)
        except OSError as error:  # no memory, no processes or descriptors left
            log.error("%s cannot be started: %s", self._name, error)
            return False
        with self._lock:
            self._process = None
        if ending.status and not self._ending.is_set():
            log.error("%s ended (%s)", self._name, ending.reason or ending)
        return ending.status == 0

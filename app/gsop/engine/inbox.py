"""The engine's sockets: who is connected, what has come, what is still to be sent.

Fronts connect to a listening socket that belongs to the supervisor and outlives its engines. One
selector watches it, the connections and the lifeline; nothing here waits while there is work.
"""

import contextlib
import logging
import selectors
import socket
from collections.abc import Iterator
from typing import NamedTuple

from gsop.arena.messages import Decoder, Message, is_own
from gsop.engine.bell import Bell
from gsop.processes.lifeline import receive_handed

log = logging.getLogger("gsop.engine")

_RECEIVE_BYTES = 1 << 16


class Peer:
    """A front's connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.decoder = Decoder()
        self.unsent = b""

    @property
    def is_gone(self) -> bool:
        """Whether the front has closed its end, or has died."""
        return self.connection.fileno() < 0

    def flush(self) -> bool:
        """Send what can be sent; true when nothing is left."""
        if self.unsent:
            with contextlib.suppress(BlockingIOError):
                self.unsent = self.unsent[self.connection.send(self.unsent) :]
        return not self.unsent

    def receive(self) -> Iterator[Message]:
        """The messages that have arrived.

        Raises:
            ConnectionError: when the front is gone.
        """
        try:
            data = self.connection.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return iter(())
        if not data:
            raise ConnectionResetError
        return self.decoder.feed(data)


class Received(NamedTuple):
    """A message and who sent it."""

    peer: Peer
    message: Message


class Handed(NamedTuple):
    """A message of the supervisor's, and the descriptor that came with it."""

    message: bytes
    descriptor: int


class Inbox:
    """All of an engine's connections. A context manager; the sockets it was given stay open."""

    def __init__(self, listener: socket.socket, lifeline: socket.socket) -> None:
        self._listener, self._lifeline = listener, lifeline
        listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(lifeline, selectors.EVENT_READ)

    def __enter__(self) -> "Inbox":
        return self

    def __exit__(self, *_: object) -> None:
        for key in list(self._selector.get_map().values()):
            if isinstance(key.data, Peer):
                key.data.connection.close()
        self._selector.close()

    def watch(self, bell: Bell) -> None:
        """Have :meth:`receive` return when ``bell`` rings, too."""
        self._selector.register(bell, selectors.EVENT_READ)

    def receive(self, seconds: float) -> list[Received | Handed] | None:
        """All that has arrived, after at most ``seconds``; ``None`` once the lifeline has ended."""
        received: list[Received | Handed] = []
        for key, mask in self._selector.select(seconds):
            if key.fileobj is self._lifeline:
                handed = receive_handed(self._lifeline)
                if handed is None:
                    return None
                received += (Handed(handed[0], descriptor) for descriptor in handed[1])
                continue
            if key.fileobj is self._listener:
                self._accept()
                continue
            if not isinstance(key.data, Peer):
                continue  # the bell, which whoever asked for it takes notice of
            peer = key.data
            try:
                if mask & selectors.EVENT_WRITE and peer.flush():
                    self._selector.modify(peer.connection, selectors.EVENT_READ, peer)
                if mask & selectors.EVENT_READ:
                    received += (Received(peer, message) for message in peer.receive())
            except ConnectionError:
                self._forget(peer)
        return received

    def send(self, peer: Peer, data: bytes) -> None:
        """Send now, or as soon as the front takes it; nothing happens if it is gone."""
        if peer.is_gone:
            return
        peer.unsent += data
        try:
            if not peer.flush():
                events = selectors.EVENT_READ | selectors.EVENT_WRITE
                self._selector.modify(peer.connection, events, peer)
        except ConnectionError:
            self._forget(peer)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        if not is_own(connection):
            log.error("refused a connection from a process of another user")
            connection.close()
            return
        self._selector.register(connection, selectors.EVENT_READ, Peer(connection))

    def _forget(self, peer: Peer) -> None:
        if not peer.is_gone:
            self._selector.unregister(peer.connection)
            peer.connection.close()

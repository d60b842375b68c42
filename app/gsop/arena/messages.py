"""What fronts and engines say to each other: a few bytes on a Unix stream socket.

Pixels, probabilities and gates lie in the slots; a message carries a slot's number and its ticket.
Only answers to queries (statistics, records) have a payload. A stream socket, rather than a message
library, because its end-of-file tells each side at once that the other died, and because a round
trip costs a sixth of the CPU (docs/architecture.md has the measurement).

The listening sockets belong to the supervisor and outlive their engines: while an engine is being
replaced, fronts already connect and send, and the kernel keeps it for the successor.
"""

import os
import socket
import struct
import sys
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

_HEADER = struct.Struct("<BxxxIQ")
_LENGTH = struct.Struct("<I")


class Kind(IntEnum):
    """Which way a message goes and what it means; ``number`` and ``ticket`` depend on it."""

    INFER = 1
    """Front to engine: slot ``number`` waits with ``ticket``."""
    INFER_ALONE = 2
    """The same, in a batch of one: an engine died on a batch that this slot was in."""
    DONE = 3
    """Engine to front: slot ``number`` is finished for ``ticket``."""
    QUERY = 4
    """Front to engine: a question, answered with the same ``ticket``; ``number`` payload bytes."""
    REPLY = 5
    """The answer to a query or to a handover; ``number`` bytes of payload."""
    HANDOVER = 6
    """Supervisor to engine: tell all that is remembered, for a successor; no payload."""


_WITH_PAYLOAD = frozenset({Kind.QUERY, Kind.REPLY})


class Message(NamedTuple):
    """One message; see :class:`Kind`."""

    kind: int
    number: int
    ticket: int
    payload: bytes = b""


def encode(kind: Kind, number: int, ticket: int) -> bytes:
    """A message without payload, 16 bytes."""
    return _HEADER.pack(kind, number, ticket)


def encode_payload(kind: Kind, ticket: int, payload: bytes) -> bytes:
    """A message with a payload."""
    return _HEADER.pack(kind, len(payload), ticket) + payload


class Decoder:
    """Cuts a byte stream into messages, whatever the pieces it arrives in."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that ``data`` completes."""
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        while end - at >= _HEADER.size:
            kind, number, ticket = _HEADER.unpack_from(data, at)
            body = at + _HEADER.size
            if kind not in _WITH_PAYLOAD:
                yield Message(kind, number, ticket)
                at = body
            elif end - body >= number:
                yield Message(kind, number, ticket, data[body : body + number])
                at = body + number
            else:
                break
        self._rest = data[at:]


def pack_reply(meta: dict[str, Any], values: npt.NDArray[np.float64]) -> bytes:
    """The payload of a reply: JSON and an array of any shape."""
    head = orjson.dumps({"meta": meta, "shape": values.shape})
    return _LENGTH.pack(len(head)) + head + values.astype("<f8").tobytes()


def unpack_reply(payload: bytes) -> tuple[dict[str, Any], npt.NDArray[np.float64]]:
    """The inverse of :func:`pack_reply`."""
    (length,) = _LENGTH.unpack_from(payload)
    start = _LENGTH.size + length
    head = orjson.loads(payload[_LENGTH.size : start])
    return head["meta"], np.frombuffer(payload, "<f8", offset=start).reshape(head["shape"])


def address_prefix(token: str, folder: str) -> str:
    """Where this service's engines listen: a name without a file on Linux, else in ``folder``."""
    return f"\0gsop-{token}" if sys.platform == "linux" else f"{folder}/gsop-{token}"


def listen(address: str) -> socket.socket:
    """The listening socket of an engine, to be inherited by every process that serves as it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen(socket.SOMAXCONN)
    return listener


def is_own(connection: socket.socket) -> bool:
    """Whether the peer is a process of this user: a name without a file has no permissions."""
    if sys.platform != "linux":
        return True
    credentials = struct.Struct("3i")  # pid, uid, gid
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    return bool(credentials.unpack(data)[1] == os.geteuid())


def connect(address: str) -> socket.socket:
    """A non-blocking connection to an engine.

    Raises:
        OSError: if the supervisor that listened there is gone.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    connection.setblocking(False)
    return connection


def ask_blocking(
    address: str, payload: bytes, seconds: float
) -> tuple[dict[str, Any], npt.NDArray[np.float64]]:
    """An engine's reply to a question about gates; blocking.

    Raises:
        OSError: if it is gone, or does not answer in time.
    """
    return unpack_reply(_exchange(address, encode_payload(Kind.QUERY, 1, payload), seconds))


def ask_for_handover(address: str, seconds: float) -> bytes:
    """All that an engine remembers, as :mod:`gsop.gates.handover` writes it; blocking.

    Raises:
        OSError: if it is gone, or does not answer in time.
    """
    return _exchange(address, encode(Kind.HANDOVER, 0, 1), seconds)


def _exchange(address: str, message: bytes, seconds: float) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        connection.connect(address)
        connection.sendall(message)
        decoder = Decoder()
        while data := connection.recv(1 << 20):
            for reply in decoder.feed(data):
                return reply.payload
    raise ConnectionResetError(f"the engine at {address!r} has ended")

"""A plugin of pytest's with which images are decoded in a decoder's cage, one after the other.

    python -m pytest -p tests.caged tests/images

:func:`gsop.images.decode` and its like ask a process in a cage in place of doing it themselves.
"""

import os
import pickle
import socket
import struct
from functools import cache
from threading import Lock
from typing import Any, NoReturn

import numpy as np
import pytest

from gsop import images
from gsop.images import InputSpec, Pixels, decoding, prepare
from gsop.processes.cage import cage_decoder

_one_at_a_time = Lock()
_LENGTH = struct.Struct("<Q")
_whole, _into = decoding.decode_whole, decoding.decode_into


def decode_whole(data: bytes, *, max_pixels: int) -> Pixels:
    return _ask(data, None, max_pixels)


def decode_into(data: bytes, out: Pixels, spec: InputSpec, *, max_pixels: int) -> None:
    shape = (spec.height, spec.width, 3)
    if out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        _into(data, out, spec, max_pixels=max_pixels)  # says what is wrong with it
    out[...] = _ask(data, spec, max_pixels)


prepare()
for module in (images, decoding):  # before any test has imported them
    for function in (decode_whole, decode_into):
        setattr(module, function.__name__, function)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out tests that put something in another's place: it would be so here alone."""
    items[:] = [item for item in items if "monkeypatch" not in getattr(item, "fixturenames", ())]


@cache
def _caged() -> tuple[socket.socket, int]:
    """A socket to the process, and its pid."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        _serve(theirs)
    theirs.close()
    return ours, pid


def _serve(connection: socket.socket) -> NoReturn:
    cage_decoder([connection.fileno()], "required")
    while question := _receive(connection):
        data, spec, max_pixels = question
        answer: Pixels | Exception
        try:
            if spec is None:
                answer = _whole(data, max_pixels=max_pixels)
            else:
                answer = np.empty((spec.height, spec.width, 3), np.uint8)
                _into(data, answer, spec, max_pixels=max_pixels)
        except Exception as error:  # noqa: BLE001  # whoever asked is to see it
            answer = error
        _send(connection, answer)
    os._exit(0)


def _ask(data: bytes, spec: InputSpec | None, max_pixels: int) -> Pixels:
    with _one_at_a_time:
        connection, pid = _caged()
        _send(connection, (bytes(data), spec, max_pixels))
        answer = _receive(connection)
        if answer is None:
            ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            _caged.cache_clear()
            connection.close()
            pytest.fail(f"the cage ended its decoder ({ended})")
    if isinstance(answer, Exception):
        raise answer
    return np.asarray(answer, np.uint8)


def _send(connection: socket.socket, what: Any) -> None:
    message = pickle.dumps(what)
    connection.sendall(_LENGTH.pack(len(message)) + message)


def _receive(connection: socket.socket) -> Any:
    """What comes next; ``None`` if nobody is there any more."""
    head = _receive_all(connection, _LENGTH.size)
    if not head:
        return None
    return pickle.loads(_receive_all(connection, _LENGTH.unpack(head)[0]))  # noqa: S301  # our own


def _receive_all(connection: socket.socket, length: int) -> bytes:
    parts: list[bytes] = []
    while length and (part := connection.recv(length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)

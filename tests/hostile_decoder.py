"""A decoder that does to its process what hostile images might do to a real one."""

import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import threading
from typing import Any

import numpy as np

from gsop.processes import seccomp
from gsop.processes.seccomp import ALLOW, Rule, refuse
from gsop.processes.syscalls import prctl
from gsop.serving import decoder
from tests.escapes import WAYS, Outside

ESCAPED = 200
"""What an image of pixels becomes that found a way out."""

REFUSED = 201
"""What it becomes if the way was shut, and the decoder lives."""

_PR_SET_NO_NEW_PRIVS = 38


def decode_into(data: bytes, out: np.ndarray[Any, Any], *_: object, **__: object) -> None:
    """Do what ``data`` says; else fill ``out`` with its first byte."""
    match data:
        case b"loop":
            while True:
                pass
        case b"wait":
            _wait_for_ever()
        case b"block signals":
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
            _wait_for_ever()
        case b"stop its timer":
            signal.setitimer(signal.ITIMER_REAL, 0)
            _wait_for_ever()
        case b"start a thread":
            thread = threading.Thread(target=lambda: out.fill(3))
            thread.start()
            thread.join()
        case b"tire":
            signal.raise_signal(signal.SIGXCPU)  # as the kernel does
            out[...] = 0
        case b"crash":
            ctypes.string_at(0)
        case b"abort":
            os.abort()
        case b"exit":
            os._exit(0)
        case b"raise":
            raise KeyError("the secret of a client")
        case b"eat":
            eaten = np.empty(4 * 2**30, np.uint8)  # never touched: only a limit refuses it
            raise AssertionError(f"{eaten.nbytes} bytes were there")
        case _ if data.startswith(b"try "):
            out[...] = _try_to_escape(json.loads(data[4:]))
        case _:
            out[...] = data[0]


def _wait_for_ever() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def _try_to_escape(how: dict[str, Any]) -> int:
    try:
        WAYS[how.pop("way")](Outside(**how))
    except (OSError, ValueError):
        return REFUSED
    return ESCAPED


def main(plan: str, connection: int, shared: int) -> None:
    """Be a decoder, with the above in place of the real decoding."""
    setattr(decoder, "decode_into", decode_into)  # noqa: B010  # mypy: it is not exported there
    decoder.main(plan, connection, shared)


def main_without_seccomp(plan: str, connection: int, shared: int) -> None:
    """The same where the kernel, or a container, gives no filters."""
    _lack("seccomp")
    main(plan, connection, shared)


def main_without_landlock(plan: str, connection: int, shared: int) -> None:
    """The same where the kernel has no Landlock."""
    _lack("landlock_create_ruleset")
    main(plan, connection, shared)


def _lack(call: str) -> None:
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    seccomp.install([Rule(call, refuse(errno.ENOSYS))], ALLOW)


def main_that_lies(plan: str, connection: int, shared: int) -> None:
    """One that has been taken over, and answers what no decoder answers."""
    with socket.socket(fileno=connection) as front:
        front.send(decoder.BORN)
        while message := front.recv(decoder.JOB.size):
            length, *_ = decoder.JOB.unpack(message)
            front.send(os.pread(shared, length, 0))


def main_that_talks(_plan: str, connection: int, _shared: int) -> None:
    """One that answers before it is asked."""
    with socket.socket(fileno=connection) as front:
        front.send(decoder.BORN)
        front.send(decoder.DECODED)
        while front.recv(decoder.JOB.size):
            pass


def main_that_denies(_plan: str, connection: int, _shared: int) -> None:
    """One that dies of its image, and says that it had not begun with it."""
    with socket.socket(fileno=connection) as front, contextlib.suppress(ConnectionError):
        front.send(decoder.BORN)
        front.recv(decoder.JOB.size)

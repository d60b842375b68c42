"""How the service listens: idle connections are probed, and nobody is lost when it stops.

Whoever is in a listening socket's queue when it is closed has connected, may have sent its request,
and is cut off. So at first nobody new is let in, then the queue empties, and then it is closed.
"""

import contextlib
import ctypes
import socket
import struct
import sys
import time

WAIT_SECONDS = 1.0
"""How long the fronts may take to accept who is there; a client's second try comes after 1 s."""

LOOK_SECONDS = 0.01

PROBE_IDLE_SECONDS, PROBE_EVERY_SECONDS, PROBES = 60, 15, 4
"""When a connection is first probed, how often then, and how often in vain until it is lost. Load
balancers that forget idle connections do so after 240 s (Azure's) or 350 s (Amazon's)."""

_SO_ATTACH_FILTER = 26
_DROP = struct.pack("HBBI", 0x06, 0, 0, 0)
"""The one instruction of a packet filter (BPF) that returns 0: of each packet, keep nothing."""

_QUEUED_AT = 24
"""Where TCP_INFO of a listening socket has the length of its queue (`tcpi_unacked`, tcp(7))."""


def probe_idle(listener: socket.socket) -> None:
    """Have connections that are accepted here probed by TCP while they are idle.

    A client that vanished without a word is noticed after two minutes, and who forgets connections
    on which nothing moves is reminded.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # accepted sockets inherit all
    if sys.platform == "linux":
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_IDLE_SECONDS)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_EVERY_SECONDS)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)


def turn_away(listener: socket.socket) -> None:
    """Let no new connection in, and return once those that are there have been accepted.

    Who is turned away hears nothing, tries again after a second, and is refused: the socket is
    closed by then. Where the system knows no such filter, nothing happens.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(_DROP)
    filter_ = struct.pack("HL", 1, ctypes.addressof(program))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)
        end = time.monotonic() + WAIT_SECONDS
        while queued(listener) and time.monotonic() < end:
            time.sleep(LOOK_SECONDS)


def queued(listener: socket.socket) -> int:
    """How many connections wait to be accepted.

    Raises:
        OSError: if the system does not say.
    """
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUEUED_AT + 4)
    (length,) = struct.unpack_from("I", info, _QUEUED_AT)
    return int(length)

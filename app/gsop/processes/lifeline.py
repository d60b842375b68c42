"""How a child learns that its supervisor is gone, and what the supervisor may hand it.

Each child holds one end of a socket whose other end only the supervisor has. When that ends,
however the supervisor ended, the child goes too. Until then descriptors may come through it.
"""

import os
import socket
import threading
from collections.abc import Callable

MOST_BYTES = 4096
MOST_DESCRIPTORS = 8


def make_lifeline() -> tuple[socket.socket, socket.socket]:
    """The supervisor's end and the child's."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def receive_handed(lifeline: socket.socket) -> tuple[bytes, list[int]] | None:
    """What the supervisor has handed: a message and its descriptors; ``None`` if it is gone."""
    try:
        message, descriptors, _, _ = socket.recv_fds(lifeline, MOST_BYTES, MOST_DESCRIPTORS)
    except OSError:
        return None
    return (message, descriptors) if message else None


def leave_with_supervisor(
    lifeline: socket.socket, receive: Callable[[bytes, list[int]], None]
) -> None:
    """End this process when the lifeline ends, whatever its other threads are doing.

    Args:
        lifeline: the child's end; blocking, and held for good.
        receive: is called in a thread of its own with each message and its descriptors.
    """

    def watch() -> None:
        while (handed := receive_handed(lifeline)) is not None:
            receive(*handed)
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()

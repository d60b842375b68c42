"""A socket that stops listening while others connect."""

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator

import pytest

from gsop.processes import listener as module
from gsop.processes.listener import probe_idle, queued, turn_away

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a packet filter of Linux")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def test_who_is_there_is_still_accepted(listener: socket.socket) -> None:
    address = listener.getsockname()
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            client = stack.enter_context(socket.create_connection(address))
            client.sendall(b"hello")
        assert queued(listener) == 3
        turning = threading.Thread(target=turn_away, args=(listener,))
        turning.start()
        for _ in range(3):
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(5) == b"hello"
        turning.join()
        assert queued(listener) == 0


def test_nobody_new_gets_in(listener: socket.socket) -> None:
    address = listener.getsockname()
    turn_away(listener)
    with pytest.raises(TimeoutError):
        socket.create_connection(address, timeout=0.3)
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)


def test_who_is_never_accepted_is_not_waited_for(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.05)
    with socket.create_connection(listener.getsockname()):
        turn_away(listener)
        assert queued(listener) == 1


def test_who_is_accepted_is_probed_while_idle(listener: socket.socket) -> None:
    probe_idle(listener)
    with socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            idle = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            assert idle < 240  # Azure's load balancer forgets it then

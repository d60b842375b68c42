"""What a connection may not do before a route sees it."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.api.guard import HEAD_SECONDS, MAX_HEAD_BYTES
from tests.support import Server, random_pngs

pytestmark = pytest.mark.slow

GOOD = random_pngs(1)[0]


@pytest.fixture(scope="module")
def server(tiny_store: Path) -> Iterator[Server]:
    with Server(tiny_store, models="tiny") as server:
        yield server.wait_ready()


def connect(server: Server) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port or 80), HEAD_SECONDS * 3)


def all_of(connection: socket.socket) -> bytes:
    """What comes until the server closes; a reset is an end too."""
    parts: list[bytes] = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def test_500_idle_connections_are_closed_and_keep_nobody_out(server: Server) -> None:
    idle = [connect(server) for _ in range(500)]
    for connection in idle[::2]:
        connection.sendall(b"GET /models HTTP/1.1\r\nHost: te")
    assert server.predict(GOOD)["predictions"]
    for connection in idle:
        with connection:
            assert all_of(connection) == b""  # times out, if it stays open
    assert server.predict(GOOD)["predictions"]


def test_a_head_without_end_is_refused(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(b"GET /models HTTP/1.1\r\nX: ")
        try:
            for _ in range(64 * 2**20 // MAX_HEAD_BYTES):
                connection.sendall(b"x" * MAX_HEAD_BYTES)
        except (ConnectionResetError, BrokenPipeError):
            pass
        else:
            pytest.fail("64 MiB of a header were taken in")
    assert server.predict(GOOD)["predictions"]


def test_pipelined_requests_are_bounded(server: Server) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n"
    with connect(server) as connection:
        connection.sendall(request * 8)
        answers = b""
        while answers.count(b'"alive"') < 8:
            answers += connection.recv(65536)
    with connect(server) as connection:
        connection.sendall(request * 2000)
        assert all_of(connection).count(b'"alive"') < 2000
    assert server.predict(GOOD)["predictions"]

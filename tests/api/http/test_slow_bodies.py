"""Bodies that come slowly, or too many at once, keep nobody else out; idle connections end."""

import json
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gsop.api.http.body_limits import MAX_SMALL_BYTES
from tests.support import Server, eventually, random_pngs

pytestmark = pytest.mark.slow

GOOD = random_pngs(1)[0]
BODY_SECONDS = 1.0
KEEP_ALIVE_SECONDS = 2


@pytest.fixture(scope="module")
def server(tiny_store: Path) -> Iterator[Server]:
    with Server(
        tiny_store,
        models="tiny",
        body_seconds=BODY_SECONDS,
        keep_alive_seconds=KEEP_ALIVE_SECONDS,
        max_body_bytes=100_000,
        body_memory_bytes=500_000,
    ) as server:
        yield server.wait_ready()


def begin(
    server: Server, announced: int, sent: bytes, call: str = "POST /predict"
) -> socket.socket:
    """Send the head of a request and the beginning of its body."""
    address = urlsplit(server.url)
    connection = socket.create_connection((address.hostname, address.port or 80), timeout=30)
    head = (
        f"{call} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {announced}\r\n\r\n"
    )
    connection.sendall(head.encode() + sent)
    return connection


def answer_of(connection: socket.socket) -> tuple[int, str]:
    """The answer's status and code, and the connection's end."""
    with connection, HTTPResponse(connection) as answer:
        answer.begin()
        return answer.status, json.loads(answer.read())["code"]


def test_a_body_that_never_ends_is_answered_and_closed(server: Server) -> None:
    slow = begin(server, 1000, b"\x89PNG")
    assert server.predict(GOOD)["predictions"]  # others are served meanwhile
    assert answer_of(slow) == (408, "body_timeout")


def test_a_body_too_large_is_not_read_to_its_end(server: Server) -> None:
    assert answer_of(begin(server, 10_000_000, b"x")) == (413, "body_too_large")


def test_bodies_in_memory_are_bounded_and_the_bound_frees_itself(server: Server) -> None:
    # Each holds nearly 100 kB; a client may hold half of the 500 kB, so its third does not fit.
    held = [begin(server, 100_000, b"x" * 90_000) for _ in range(3)]
    assert server.predict(GOOD)["predictions"]  # a small one still fits
    answers = sorted(answer_of(connection) for connection in held)
    assert answers == [(408, "body_timeout"), (408, "body_timeout"), (429, "client_overloaded")]
    # All given back: a large body fits again.
    large = GOOD + b"\0" * 90_000
    eventually(lambda: server.predict(large)["predictions"])


SMALL = (
    "PUT /models/tiny/traffic",
    "POST /models/tiny/versions/1/load",
    "POST /v2/repository/index",
    "POST /v2/repository/models/tiny/load",
)


@pytest.mark.parametrize("call", SMALL)
def test_bodies_that_hold_no_image_are_small_and_in_time_too(server: Server, call: str) -> None:
    assert answer_of(begin(server, MAX_SMALL_BYTES + 1, b"{", call)) == (413, "body_too_large")
    assert answer_of(begin(server, 1000, b"{", call)) == (408, "body_timeout")


def test_every_call_that_takes_a_body_bounds_it(server: Server) -> None:
    names = {"name": "tiny", "version": "1"}
    paths = server.http.get("/openapi.json").json()["paths"]
    calls = {
        f"{method.upper()} {path.format_map(names)}"
        for path, operations in paths.items()
        for method, operation in operations.items()
        if "requestBody" in operation
    }
    assert {"POST /predict", *SMALL[:2]} <= calls
    for call in calls:
        assert answer_of(begin(server, 10_000_000, b"{", call)) == (413, "body_too_large"), call


def test_an_idle_connection_is_kept_as_long_as_the_settings_say(server: Server) -> None:
    address = urlsplit(server.url)
    connection = HTTPConnection(str(address.hostname), address.port, timeout=30)
    for _ in range(2):
        connection.request("GET", "/healthz")
        assert connection.getresponse().read()
        answered = time.monotonic()
        time.sleep(KEEP_ALIVE_SECONDS / 4)
    assert connection.sock.recv(1) == b""
    assert time.monotonic() - answered >= KEEP_ALIVE_SECONDS - 0.1
    connection.close()

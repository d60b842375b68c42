"""Bodies that come slowly, or too many at once, keep nobody else out."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support import Server, eventually, random_pngs

pytestmark = pytest.mark.slow

GOOD = random_pngs(1)[0]
BODY_SECONDS = 1.0


@pytest.fixture(scope="module")
def server(tiny_store: Path) -> Iterator[Server]:
    with Server(
        tiny_store,
        models="tiny",
        body_seconds=BODY_SECONDS,
        max_body_bytes=100_000,
        body_memory_bytes=250_000,
    ) as server:
        yield server.wait_ready()


def begin(server: Server, announced: int, sent: bytes) -> socket.socket:
    """Send the head of a request and the beginning of its body."""
    address = urlsplit(server.url)
    connection = socket.create_connection((address.hostname, address.port or 80), timeout=30)
    head = (
        "POST /predict HTTP/1.1\r\nHost: test\r\nContent-Type: image/png\r\n"
        f"Content-Length: {announced}\r\n\r\n"
    )
    connection.sendall(head.encode() + sent)
    return connection


def all_of(connection: socket.socket) -> bytes:
    """What comes until the server closes."""
    with connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_body_that_never_ends_is_answered_and_closed(server: Server) -> None:
    slow = begin(server, 1000, b"\x89PNG")
    assert server.predict(GOOD)["predictions"]  # others are served meanwhile
    answer = all_of(slow)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"body_timeout"' in answer


def test_a_body_too_large_is_not_read_to_its_end(server: Server) -> None:
    answer = all_of(begin(server, 10_000_000, b"x"))
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_bodies_in_memory_are_bounded_and_the_bound_frees_itself(server: Server) -> None:
    answers: list[bytes] = []
    # Each holds nearly 100 kB of the 250 kB: the third does not fit.
    held = [begin(server, 100_000, b"x" * 90_000) for _ in range(3)]
    threads = [
        threading.Thread(target=lambda c: answers.append(all_of(c)), args=(c,)) for c in held
    ]
    for thread in threads:
        thread.start()
    assert server.predict(GOOD)["predictions"]  # a small one still fits
    for thread in threads:
        thread.join()
    statuses = sorted(answer.split(b" ", 2)[1] for answer in answers)
    assert statuses == [b"408", b"408", b"429"]
    assert b'"code":"overloaded"' in b"".join(answers)
    # All given back: a large body fits again.
    large = GOOD + b"\0" * 90_000
    eventually(lambda: server.predict(large)["predictions"])

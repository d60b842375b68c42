"""What a connection may not do before a route sees it."""

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from gsop.api.http.guard import (
    FREE_CHUNKS,
    LEAST_CHUNK_BYTES,
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    MAX_TARGET_BYTES,
    UNREAD_ROUNDS,
)
from gsop.api.http.schemas import Problem
from tests.support import Server, eventually, random_pngs

pytestmark = pytest.mark.slow

GOOD = random_pngs(1)[0]
HEAD_SECONDS = 1.0
MAX_CONNECTIONS = 600


@pytest.fixture(scope="module")
def server(tiny_store: Path) -> Iterator[Server]:
    with Server(
        tiny_store, models="tiny", head_seconds=HEAD_SECONDS, max_connections=MAX_CONNECTIONS
    ) as server:
        yield server.wait_ready()


def connect(server: Server) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port or 80), 30)


def all_of(connection: socket.socket) -> bytes:
    """What comes until the server closes; a reset is an end too."""
    return until(connection, None)


def until(connection: socket.socket, wanted: bytes | None) -> bytes:
    """What comes until ``wanted`` is in it or the server closes."""
    seen = b""
    with contextlib.suppress(ConnectionResetError):
        while (wanted is None or wanted not in seen) and (part := connection.recv(65536)):
            seen += part
    return seen


def test_500_idle_connections_are_closed_and_keep_nobody_out(server: Server) -> None:
    idle = [connect(server) for _ in range(500)]
    for connection in idle[::2]:
        connection.sendall(b"GET /models HTTP/1.1\r\nHost: te")
    assert server.predict(GOOD)["predictions"]
    for connection in idle:
        with connection:
            assert all_of(connection) == b""  # fails by its timeout if it stays open
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


UPGRADES = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
}


@pytest.mark.parametrize("wish", UPGRADES)
@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_a_wish_for_another_protocol_is_passed_over(server: Server, wish: str, pieces: int) -> None:
    # The body is a request: one that must not be answered.
    body = b"GET /healthz HTTP/1.1\r\nHost: smuggled\r\n\r\n"
    head = (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n" + UPGRADES[wish]
    )
    good = b"%bContent-Length: %d\r\n\r\n%b" % (head, len(GOOD), GOOD)
    last = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    sent = b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body) + good + last
    step = -(-len(sent) // pieces)
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(sent), step):
            connection.sendall(sent[at : at + step])
            time.sleep(0.02 * (pieces > 1))  # so that the pieces come one by one
        answers = all_of(connection)
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"400", b"200", b"200"]
    assert b"invalid_image" in answers
    assert b"predictions" in answers
    assert b'"alive"' not in answers


def test_a_tunnel_is_refused(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(
            b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\n\r\n"
        )
        assert re.findall(rb"HTTP/1.1 (\d+)", all_of(connection)) == [b"400"]


def test_what_is_no_http_writes_no_log(server: Server) -> None:
    before = len(server.log)
    for data in (b"\x16\x03\x01\x02\r\n\r\n", b"GET / HTTP/1.1\r\nX y\r\n\r\n"):
        with connect(server) as connection:
            connection.sendall(data)
            assert b" 400 " in all_of(connection)
    assert server.log[before:] == []


def test_a_query_without_end_is_refused(server: Server) -> None:
    def ask(length: int) -> bytes:
        target = b"/models?" + b"a&" * (length // 2)
        with connect(server) as connection:
            connection.sendall(
                b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % target
            )
            return all_of(connection).split(b"\r\n")[0]

    assert ask(MAX_TARGET_BYTES - 100) == b"HTTP/1.1 200 OK"
    assert ask(MAX_TARGET_BYTES + 100) == b"HTTP/1.1 400 Bad Request"


def test_pipelined_requests_are_bounded(server: Server) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(server) as connection:
        connection.sendall(request * 8)
        answers = b""
        while answers.count(b'"alive"') < 8:
            answers += connection.recv(65536)
    with connect(server) as connection:
        connection.sendall(request * 2000)
        assert all_of(connection).count(b'"alive"') < 2000
    assert server.predict(GOOD)["predictions"]


def test_connections_are_bounded_and_the_idle_ones_make_room(server: Server) -> None:
    def served(connection: socket.socket) -> bool:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return b"alive" in until(connection, b"alive")

    busy = connect(server)  # in the middle of a request, so it keeps its place
    busy.sendall(
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(GOOD), GOOD[:10])
    )
    first = connect(server)
    assert served(first)
    others = [connect(server) for _ in range(MAX_CONNECTIONS + 50)]
    assert served(others[-1])
    assert not served(first)
    busy.sendall(GOOD[10:])
    assert b"predictions" in until(busy, b"predictions")
    for connection in (busy, first, *others):
        connection.close()


def test_what_is_no_http_is_refused_as_a_problem(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        head, _, body = all_of(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in head
    assert Problem.model_validate_json(body).code == "invalid_request"


def test_the_rest_of_a_refused_body_is_not_awaited_for_ever(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\n"
            b"Content-Length: 1000000\r\n\r\nthe beginning"
        )
        began = time.monotonic()
        assert b" 415 " in all_of(connection)
        assert time.monotonic() - began < HEAD_SECONDS * 10
    assert server.predict(GOOD)["predictions"]


def test_answers_that_nobody_reads_are_dropped(server: Server) -> None:
    """A client asks for far more than the kernel's buffers hold, and never reads."""
    front = Path(f"/proc/{server.child('gsop-front-0')}/fd")
    request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def answered() -> float:
        return server.metric("gsop_requests_total", status="200", route="other")

    with connect(server) as connection:
        for _ in range(500):
            before = answered()
            connection.sendall(request * 16)
            try:
                eventually(lambda before=before: answered() >= before + 16, 1.0)  # type: ignore[misc]
            except AssertionError:
                break  # the answers are stuck
        else:
            pytest.fail("the kernel takes 8000 answers in: this test shows nothing")
        held = len(list(front.iterdir()))
        # The connection goes on the server's side, though this side stays open.
        limit = HEAD_SECONDS * (UNREAD_ROUNDS + 2) * 5
        eventually(lambda: len(list(front.iterdir())) < held, limit)
    assert server.predict(GOOD)["predictions"]


CHUNKED = (
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    b"Transfer-Encoding: chunked\r\n"
)


def sent(server: Server, *pieces: bytes) -> bytes:
    """What is answered until the connection's end; what cannot be sent is left out."""
    with connect(server) as connection:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for piece in pieces:
                connection.sendall(piece)
        return all_of(connection)


def test_a_trailer_is_no_header(server: Server) -> None:
    trailers = b"X-Request-Id: from-a-trailer\r\nConnection: upgrade\r\nUpgrade: h2c\r\n"
    body = b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(GOOD), GOOD, trailers)
    with connect(server) as connection:
        connection.sendall(CHUNKED + b"\r\n" + body)
        answer = until(connection, b"predictions")
        assert b" 200 " in answer
        assert b"from-a-trailer" not in answer
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"alive" in until(connection, b"alive")


@pytest.mark.parametrize("trailer", [b"Content-Length: 7", b"Transfer-Encoding: gzip"])
def test_a_trailer_that_would_bound_the_body_is_refused(server: Server, trailer: bytes) -> None:
    answer = sent(server, CHUNKED + b"\r\n1\r\na\r\n0\r\n%b\r\n\r\n" % trailer + HIDDEN)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"alive" not in answer


def test_a_connection_that_a_trailer_closes_is_closed(server: Server) -> None:
    trailer = b"Connection: close\r\n"
    body = b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(GOOD), GOOD, trailer)
    with connect(server) as connection:
        connection.sendall(CHUNKED + b"\r\n" + body)
        assert b"predictions" in all_of(connection)  # fails by its timeout if it stays open


def test_trailers_and_extensions_without_end_are_cut_off(server: Server) -> None:
    front = server.child("gsop-front-0")
    before = resident(front)
    for begin, more in ((b"0\r\n", b"xx: y\r\n" * 2000), (b"5;", b"x" * 16_000)):
        pieces = [CHUNKED, b"\r\n", b"1\r\na\r\n", begin, *[more] * 2500]
        sent(server, *pieces)
    assert resident(front) - before < 32 * 2**20
    assert server.predict(GOOD)["predictions"]


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("coding", ["gzip, chunked", "chunked, chunked", "identity", "chunked;q=1"])
def test_other_codings_than_chunked_are_refused(server: Server, coding: str) -> None:
    head = CHUNKED.replace(b"chunked", coding.encode())
    answer = sent(server, head + b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD))
    assert answer.startswith(b"HTTP/1.1 400 ")


HIDDEN = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 53\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: \x0bchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"Content-Length: 0\r\nContent-Length: 48\r\n\r\n",
        b"Content-Length: 0,48\r\n\r\n",
        b"Content-Length: +0\r\n\r\n",
        b"X: a\rContent-Length: 48\r\n\r\n",
        b"X: a\0b\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n2;\nxx\r\n4c\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\naX\r\n0\r\n\r\n",
    ],
)
def test_what_a_proxy_could_read_otherwise_is_refused(server: Server, framing: bytes) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    answer = sent(server, head + framing + HIDDEN)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"alive" not in answer


def test_the_lines_of_a_head_are_counted(server: Server) -> None:
    def ask(lines: int) -> bytes:
        head = b"GET /models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        return sent(server, head + b"x: y\r\n" * lines + b"\r\n").split(b"\r\n")[0]

    assert ask(MAX_FIELDS - 2) == b"HTTP/1.1 200 OK"
    assert ask(MAX_FIELDS - 1) == b"HTTP/1.1 400 Bad Request"


@pytest.mark.parametrize("pieces", [(b"fffffff\r\n",), (b"1\r\na\r\nff", b"fffff;a=b\r", b"\nxyz")])
def test_a_chunk_is_judged_by_its_announced_size(server: Server, pieces: tuple[bytes, ...]) -> None:
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(CHUNKED + b"\r\n")
        for piece in pieces:
            time.sleep(0.05)  # so that they come one by one
            connection.sendall(piece)
        answer = until(connection, b"body_too_large")  # the rest has not been sent
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_body_of_many_tiny_chunks_is_refused(server: Server) -> None:
    def ask(size: int) -> bytes:
        chunks = [GOOD[i : i + size] for i in range(0, len(GOOD), size)]
        chunks += [b"\0" * size] * FREE_CHUNKS * 2
        head = CHUNKED + b"Connection: close\r\n\r\n"
        return sent(server, head, b"".join(map(chunk, chunks)) + b"0\r\n\r\n")

    assert b"too small chunks" in ask(LEAST_CHUNK_BYTES // 4)
    assert b"too small chunks" not in ask(LEAST_CHUNK_BYTES)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_a_crowd_with_bodies_keeps_nobody_out(server: Server) -> None:
    head = CHUNKED + b"\r\n1\r\na\r\n"
    crowd = [connect(server) for _ in range(MAX_CONNECTIONS + 30)]
    for connection in crowd:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(head)
    for _ in range(5):
        assert httpx.post(
            server.url + "/predict", content=GOOD, headers={"Content-Type": "image/png"}, timeout=30
        ).json()["predictions"]
    for connection in crowd:
        connection.close()

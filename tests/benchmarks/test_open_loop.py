import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from benchmarks.open_loop import LOST, Log, Seen, ceiling, generate, parse_head, summarise


@contextmanager
def answering(answer: bytes, seconds: float = 0.0, closes: bool = False) -> Iterator[str]:
    """A server in a thread that answers one request at a time, each after ``seconds``."""
    ready = threading.Event()
    held: dict[str, Any] = {}

    async def serve() -> None:
        turn = asyncio.Lock()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while await reader.readuntil(b"body"):
                    async with turn:
                        await asyncio.sleep(seconds)
                    writer.write(answer)
                    if closes:
                        break
            except asyncio.IncompleteReadError:
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        held["port"] = server.sockets[0].getsockname()[1]
        held["loop"], held["stop"] = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await held["stop"].wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait()
    try:
        yield f"http://127.0.0.1:{held['port']}/predict"
    finally:
        held["loop"].call_soon_threadsafe(held["stop"].set)
        thread.join()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
FULL = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"


def test_head_is_read_whatever_its_case() -> None:
    head = b"HTTP/1.1 503 Service Unavailable\r\ncontent-LENGTH: 17\r\nConnection: close"
    assert parse_head(head) == (503, 17, True)
    assert parse_head(b"HTTP/1.1 200 OK\r\nServer: a:b") == (200, 0, False)


def test_every_request_is_sent_and_answered() -> None:
    with answering(OK) as url:
        seen = generate(url, b"body", {"Content-Type": "image/jpeg"}, rate=200, seconds=0.5)
    assert seen.statuses == {"200": 100}
    assert seen.goodput == pytest.approx(200, rel=0.2)


def test_time_in_the_queue_counts_from_when_a_request_was_due() -> None:
    """20 ms each, one at a time, 100 a second: the last one waits for half of all."""
    with answering(OK, seconds=0.02) as url:
        seen = generate(url, b"body", {}, rate=100, seconds=0.5)
    assert seen.statuses == {"200": 50}
    assert seen.p99_ms is not None
    assert seen.p99_ms > 400
    assert seen.goodput < 60


def test_refusals_are_no_goodput() -> None:
    with answering(FULL) as url:
        seen = generate(url, b"body", {}, rate=100, seconds=0.2)
    assert seen.statuses == {"429": 20}
    assert seen.goodput == 0
    assert seen.p99_ms is None
    assert seen.refused_p99_ms is not None


def test_a_closed_connection_is_replaced() -> None:
    closing = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
    with answering(closing, closes=True) as url:
        seen = generate(url, b"body", {}, rate=50, seconds=0.4)
    assert seen.statuses == {"200": 20}


def test_what_nobody_answers_is_lost() -> None:
    with answering(b"", closes=True) as url:
        seen = generate(url, b"body", {}, rate=50, seconds=0.2)
    assert seen.statuses == {str(LOST): 10}
    seen = generate("http://127.0.0.1:9/", b"body", {}, rate=50, seconds=0.2)
    assert seen.statuses == {str(LOST): 10}


def test_figures_tell_good_from_refused() -> None:
    log = Log(ended=[Seen(200, 0.001), Seen(200, 0.003), Seen(429, 0.002), Seen(LOST, 10)])
    seen = summarise(log, rate=4, span=2)
    assert (seen.goodput, seen.p50_ms, seen.p99_ms, seen.refused_p50_ms) == (1, 1, 3, 2)
    assert seen.late_ms is None


def test_the_generator_is_measured_against_nothing() -> None:
    start = time.monotonic()
    seen = ceiling(b"body", rate=100, seconds=0.3)
    assert seen.statuses == {"200": 30}
    assert time.monotonic() - start < 30

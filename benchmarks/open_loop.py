"""Open loop: requests come at a constant rate, whether or not the server keeps up.

    python -m benchmarks.open_loop URL --body FILE --rate 200 --seconds 10

A request's latency counts from the moment at which it was due, so a server that stalls cannot hide
it by holding the clients back ("coordinated omission"). Kept-alive connections are taken from a
pool, and opened anew when all are busy. It runs in a process of its own and prints JSON. The
rate that the generator itself can do is measured with ``--ceiling``, against a server that answers
at once without looking at the request.
"""

import argparse
import asyncio
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection as Sender
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop

from benchmarks.summary import percentile

MOST_CONNECTIONS = 2048
DRAIN_SECONDS = 10.0
"""How long to wait for answers after the last request."""

OK, REFUSED = 200, (429, 503)
LOST = 0
"""Stands for the status of a request that was never answered."""


@dataclass(frozen=True)
class Open:
    """What came back. Latencies are counted from when the request was due.

    Attributes:
        offered: requests a second that were due.
        goodput: successful answers a second.
        statuses: how many answers of each HTTP status; ``"0"``: none came.
        p50_ms: of the successful ones, as p90 and p99.
        refused_p99_ms: of 429 and 503, from when they were due; NaN becomes ``None``.
        late_ms: the 99th percentile of how late the generator itself sent.
    """

    offered: float
    seconds: float
    goodput: float
    statuses: dict[str, int]
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    refused_p50_ms: float | None
    refused_p99_ms: float | None
    late_ms: float | None


@dataclass
class Seen:
    """One request's end."""

    status: int
    latency: float


@dataclass
class Log:
    """All that is recorded while running."""

    ended: list[Seen] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    last_end: float = 0.0


class Connection(asyncio.Protocol):
    """A kept-alive connection with at most one request on it."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._buffer = b""
        self.due = -1.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It can be sent on."""
        self.transport = cast(asyncio.Transport, transport)

    def send(self, due: float) -> None:
        """Send the request that was due at ``due``."""
        assert self.transport is not None
        self.due = due
        self._pool.log.late.append(time.monotonic() - due)
        self.transport.write(self._pool.request)

    def data_received(self, data: bytes) -> None:
        """A part of an answer."""
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        status, length, closes = parse_head(head)
        if len(rest) < length:
            return
        self._buffer = b""
        self._pool.ended(self, status)
        if closes and self.transport is not None:
            self._pool.idle.remove(self)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The server has closed it; what was asked on it is lost."""
        self.transport = None
        if self in self._pool.idle:
            self._pool.idle.remove(self)
        elif self.due >= 0:
            self._pool.ended(self, LOST)
            self._pool.idle.remove(self)


def parse_head(head: bytes) -> tuple[int, int, bool]:
    """Status, length of the body, and whether the server closes the connection."""
    lines = head.lower().split(b"\r\n")
    fields = dict(line.partition(b":")[::2] for line in lines[1:])
    length = int(fields.get(b"content-length", b"0"))
    return int(lines[0].split()[1]), length, fields.get(b"connection", b"").strip() == b"close"


class Pool:
    """The connections, and what comes back over them."""

    def __init__(self, host: str, port: int, request: bytes) -> None:
        self._host, self._port, self.request = host, port, request
        self.log = Log()
        self.idle: list[Connection] = []
        self.pending = 0
        self._opened = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def fire(self, due: float) -> None:
        """Send one request, on an idle connection or on a new one."""
        self.pending += 1
        if self.idle:
            self.idle.pop().send(due)
            return
        task = asyncio.ensure_future(self._open(due))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            if self._opened >= MOST_CONNECTIONS:
                raise OSError("too many connections")
            self._opened += 1
            _, connection = await loop.create_connection(
                lambda: Connection(self), self._host, self._port
            )
        except OSError:
            self.pending -= 1
            self.log.ended.append(Seen(LOST, time.monotonic() - due))
            return
        connection.send(due)

    def ended(self, connection: Connection, status: int) -> None:
        """A request came to its end; its connection is free again."""
        now = time.monotonic()
        self.log.ended.append(Seen(status, now - connection.due))
        self.log.last_end = now
        connection.due = -1.0
        self.pending -= 1
        self.idle.append(connection)

    def close(self) -> None:
        """Close what is idle."""
        for connection in list(self.idle):
            if connection.transport is not None:
                connection.transport.abort()


async def _generate(pool: Pool, rate: float, seconds: float) -> float:
    """Send at ``rate`` for ``seconds``, then wait for the answers; when the first was due."""
    start = time.monotonic() + 0.05
    for number in range(round(rate * seconds)):
        due = start + number / rate
        wait = due - time.monotonic()
        # Even when behind: the loop must read answers between the sends.
        await asyncio.sleep(max(0.0, wait))
        pool.fire(due)
    end = time.monotonic() + DRAIN_SECONDS
    while pool.pending and time.monotonic() < end:  # noqa: ASYNC110  # the end of a measurement
        await asyncio.sleep(0.01)
    return start


def generate(
    url: str, body: bytes, headers: Mapping[str, str], *, rate: float, seconds: float
) -> Open:
    """Load ``url`` from this process."""
    where = urlsplit(url)
    target = where._replace(scheme="", netloc="").geturl()
    head = f"POST {target} HTTP/1.1\r\nHost: {where.netloc}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    pool = Pool(where.hostname or "", where.port or 80, request)

    async def measured() -> float:
        start = await _generate(pool, rate, seconds)
        pool.close()
        return start

    start = uvloop.run(measured())
    pool.log.ended += [Seen(LOST, DRAIN_SECONDS)] * pool.pending
    return summarise(pool.log, rate=rate, span=max(seconds, pool.log.last_end - start))


def summarise(log: Log, *, rate: float, span: float) -> Open:
    """Figures of a run; ``span`` is the time in which the answers came, in seconds."""
    good = [seen.latency * 1000 for seen in log.ended if seen.status == OK]
    refused = [seen.latency * 1000 for seen in log.ended if seen.status in REFUSED]

    def at(values: list[float], percent: float) -> float | None:
        return percentile(values, percent) if values else None

    return Open(
        offered=rate,
        seconds=span,
        goodput=len(good) / span,
        statuses={str(k): n for k, n in sorted(Counter(s.status for s in log.ended).items())},
        p50_ms=at(good, 50),
        p90_ms=at(good, 90),
        p99_ms=at(good, 99),
        refused_p50_ms=at(refused, 50),
        refused_p99_ms=at(refused, 99),
        late_ms=at([late * 1000 for late in log.late], 99),
    )


def run(url: str, body: bytes, headers: Mapping[str, str], *, rate: float, seconds: float) -> Open:
    """Load ``url`` from a process of its own."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(body)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "benchmarks.open_loop", url, "--body", file.name),
                *("--rate", str(rate), "--seconds", str(seconds)),
                *("--headers", json.dumps(dict(headers))),
            ],
            cwd=Path(__file__).parent.parent,
            stdout=subprocess.PIPE,
            check=True,
        )
    return Open(**json.loads(done.stdout))


# ── the generator's own ceiling ──────────────────────────────────────────────────────────────────


class _Echo(asyncio.Protocol):
    """Answers each request of a known length at once."""

    def __init__(self, length: int) -> None:
        self._length, self._got = length, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._got += len(data)
        while self._got >= self._length:
            self._got -= self._length
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


def _serve_at_once(pipe: Sender, length: int) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Echo(length), "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


def ceiling(body: bytes, *, rate: float, seconds: float) -> Open:
    """What the generator itself does at ``rate``, against a server that costs next to nothing."""
    host = "127.0.0.1"
    here, there = multiprocessing.Pipe()
    port = 10_000  # five digits, as any that the server will get
    length = len(f"POST / HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(body)}\r\n\r\n")
    server = multiprocessing.get_context("spawn").Process(
        target=_serve_at_once, args=(there, length + len(body)), daemon=True
    )
    server.start()
    try:
        return generate(f"http://{host}:{here.recv()}/", body, {}, rate=rate, seconds=seconds)
    finally:
        server.kill()
        server.join()


def main() -> None:
    """Print one run as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", nargs="?", default="")
    parser.add_argument("--body", required=True, type=Path)
    parser.add_argument("--headers", type=json.loads, default={})
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--ceiling", action="store_true", help="measure the generator itself")
    given = parser.parse_args()
    body = given.body.read_bytes()
    if given.ceiling:
        seen = ceiling(body, rate=given.rate, seconds=given.seconds)
    else:
        seen = generate(given.url, body, given.headers, rate=given.rate, seconds=given.seconds)
    print(json.dumps(asdict(seen)))


if __name__ == "__main__":
    main()

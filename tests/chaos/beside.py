"""Attacks by one client, with a good one beside it.

    python -m tests.chaos.beside                      # every attack, some five minutes
    python -m tests.chaos.beside costly-images --seconds 20

The service runs with its default settings. The good client comes from another address of loopback
and asks for one prediction after another, first alone, then beside the attack, which has a process
of its own, so that what it costs itself is not measured as the service's. It must get every answer,
as quickly as SECURITY.md promises, and the memory of all processes must stay bounded. A line for
each attack; the exit status is 1 if a promise broke or a figure missed its mark.
"""

import argparse
import asyncio
import contextlib
import io
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import cache
from multiprocessing.synchronize import Event
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
from PIL import Image

from gsop.serving.decoder import BYTES_A_PIXEL
from tests.chaos.report import Report
from tests.chaos.shots import form, request
from tests.imagery import encode
from tests.stores import publish_tiny
from tests.support import START_SECONDS, Server, random_pngs

GOOD_ADDRESS = "127.0.0.2"
GROWTH_BYTES = 600 * 2**20
"""More than the memory for bodies, and what fronts and engines take beside it."""

COSTLY_PIXELS = 5000 * 4900
"""Of the largest image of :func:`costly_form`: a decoder is allowed so many bytes for each."""

CROWD = 1100
"""Connections: more than a front has places for."""

CHUNKED = (
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)

Where = tuple[str, int]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(where: Where) -> AsyncIterator[Streams]:
    """A connection of the attacker's; that it ends is no error."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        reader, writer = await asyncio.open_connection(*where)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()  # what is not sent yet would keep it open


async def for_ever(attack: Callable[[Where], Coroutine[None, None, None]], where: Where) -> None:
    while True:
        await attack(where)
        await asyncio.sleep(0.01)


async def trailers(where: Where) -> None:
    """Forty megabytes of trailers."""
    async with connected(where) as (_, writer):
        writer.write(CHUNKED + b"1\r\na\r\n0\r\n")
        for _ in range(40):
            writer.write(b"xx: y\r\n" * 2**17)
            await writer.drain()


async def tiny_chunks(where: Where) -> None:
    """A body of single bytes, each a chunk."""
    async with connected(where) as (_, writer):
        writer.write(CHUNKED)
        for _ in range(20):
            writer.write(b"1\r\na\r\n" * 2**16)
            await writer.drain()


async def tiny_headers(where: Where) -> None:
    """A head of many small lines, which does not end."""
    async with connected(where) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a:b\r\n" * 12_000)
        await reader.read()


async def dripping(where: Where) -> None:
    """A head and one byte of a body."""
    async with connected(where) as (reader, writer):
        writer.write(CHUNKED + b"1\r\na\r\n")
        await reader.read()


async def deaf(where: Where) -> None:
    """Asks for more than it ever reads."""
    async with connected(where) as (_, writer):
        writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
        await writer.drain()
        await asyncio.sleep(60)


async def unfinished(where: Where) -> None:
    """Ten megabytes but for the last byte."""
    async with connected(where) as (reader, writer):
        writer.write(request(length=10 * 2**20) + bytes(10 * 2**20 - 1))
        await reader.read()


async def expired(where: Where) -> None:
    """Ten megabytes that nobody waits for any more when they have come."""
    async with connected(where) as (reader, writer):
        body = random_pngs(1)[0].ljust(10 * 2**20, b"\0")
        writer.write(request(body, target="/predict?timeout_ms=1"))
        await reader.read(100)


async def costly_images(where: Where) -> None:
    """A form of images that are small as files and dear to decode."""
    async with connected(where) as (reader, writer):
        writer.write(costly_form())
        await reader.read(100)


@cache
def costly_form() -> bytes:
    white = np.full((COSTLY_PIXELS // 4900, 4900, 3), 255, np.uint8)
    thin = np.zeros((1_000_000, 1), np.uint8)
    file = io.BytesIO()
    indexed = Image.new("P", (4000, 4000))
    indexed.putpalette([1, 2, 3] * 256)
    indexed.save(file, "PNG", transparency=b"\0\1\2")
    images = [encode(white, "WEBP", lossless=True, method=0), encode(thin, "PNG"), file.getvalue()]
    parts = [("image", images[number % len(images)]) for number in range(30)]
    return request(form(parts), "multipart/form-data; boundary=edge")


ATTACKS: dict[str, tuple[Callable[[Where], Coroutine[None, None, None]], int, bool]] = {
    "trailers": (trailers, 2, False),
    "tiny-chunks": (tiny_chunks, 4, False),
    "tiny-headers": (tiny_headers, 100, False),
    "dripping-bodies": (dripping, CROWD, False),
    "deaf-clients": (deaf, 20, False),
    "unfinished-bodies": (unfinished, 30, False),
    "expired-bodies": (expired, 4, False),
    "costly-images": (costly_images, 7, True),
}
"""Name → what a connection of it does, how many do so at once, and whether it is by decoding."""


def beside(server: Server, name: str, seconds: float) -> Report:
    """One attack on a ready server, and the good client's fate."""
    report = Report()
    _, _, decodes = ATTACKS[name]
    alone, before = asyncio.run(_ask(server.url, seconds)), _memory(server)
    attacked, most = asyncio.run(_attacked(server, name, seconds))
    usual, worst = _p99(alone[0]), _p99(attacked[0])
    mib = 2**20
    report.note(
        good_answers=len(attacked[0]),
        p99_alone=f"{usual * 1000:.0f} ms",
        p99_beside=f"{worst * 1000:.0f} ms",
        memory_before=f"{before // mib} MiB",
        most=f"{most // mib} MiB",
    )
    refused = dict(Counter(alone[1] + attacked[1]))
    report.check(not refused, f"refused to the good: {refused}")
    report.check(bool(attacked[0]), "the good client got no answer at all")
    growth = _decoders(server) * COSTLY_PIXELS * BYTES_A_PIXEL if decodes else GROWTH_BYTES
    report.check(most - before < growth, f"memory is not bounded by {growth // mib} MiB more")
    mark = max(1.0, 2 * usual) if decodes else 2 * usual + 0.1
    report.aim(worst <= mark, f"p99 is {worst:.2f} s, over {mark:.2f} s")
    return report


async def _ask(url: str, seconds: float) -> tuple[list[float], list[str]]:
    """Times of the good client's answers, and what else it got."""
    took: list[float] = []
    faults: list[str] = []
    image, kind = random_pngs(1)[0], {"Content-Type": "image/png"}
    transport = httpx.AsyncHTTPTransport(local_address=GOOD_ADDRESS)
    async with httpx.AsyncClient(base_url=url, transport=transport, timeout=60) as client:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            began = time.monotonic()
            try:
                answer = await client.post("/predict", content=image, headers=kind)
                if answer.status_code != 200:
                    faults.append(f"{answer.status_code}")
            except httpx.HTTPError as error:
                faults.append(type(error).__name__)
            took.append(time.monotonic() - began)
    return took, faults


async def _attacked(
    server: Server, name: str, seconds: float
) -> tuple[tuple[list[float], list[str]], int]:
    """The good client's fate beside an attack, and the most memory."""
    address = urlsplit(server.url)
    where = (address.hostname or "", address.port or 0)
    spawn = multiprocessing.get_context("spawn")
    has_begun = spawn.Event()
    attacker = spawn.Process(target=_attack, args=(name, where, has_begun), daemon=True)
    attacker.start()
    try:
        if not await asyncio.to_thread(has_begun.wait, START_SECONDS):
            raise TimeoutError("the attacker did not start")
        most = 0
        good = asyncio.create_task(_ask(server.url, seconds))
        while not good.done():
            most = max(most, await asyncio.to_thread(_memory, server))
            await asyncio.wait([good], timeout=0.2)
    finally:
        attacker.kill()
        attacker.join()
    return good.result(), most


def _attack(name: str, where: Where, has_begun: Event) -> None:
    """The attacker's process."""
    attack, count, _ = ATTACKS[name]
    costly_form()  # made now, not while the clock runs

    async def crowd() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(for_ever(attack, where))
            has_begun.set()

    asyncio.run(crowd())


def _p99(took: list[float]) -> float:
    return float(np.quantile(took, 0.99)) if took else float("inf")


def _decoders(server: Server) -> int:
    """How many there are."""
    names = (Path(f"/proc/{pid}/comm").read_text() for pid in server.descendants())
    return sum(name.startswith("gsop-decoder") for name in names)


def _memory(server: Server) -> int:
    """Memory of all processes that is their own alone."""
    total = 0
    for pid in server.descendants():
        with contextlib.suppress(OSError):
            resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
            total += (int(resident) - int(shared)) * 4096
    return total


def main() -> int:
    """Run what is asked for; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=", ".join(ATTACKS))
    parser.add_argument("--seconds", type=float, default=20, help="of each, twice")
    options = parser.parse_args()
    broken = False
    with tempfile.TemporaryDirectory() as folder:
        publish_tiny(Path(folder))
        for name in options.attacks or ATTACKS:
            with Server(Path(folder), models="tiny") as server:
                report = beside(server.wait_ready(), name, options.seconds)
            broken |= bool(report.faults or report.missed)
            print(report.show(name), flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

"""Thousands of mixed requests, hostile ones among good ones, against a real server.

    python -m tests.chaos.attack --requests 20000

Every good request must be answered right, no answer may be a 5xx, every other one must be one that
is documented for what was sent, no process may die but decoding helpers, and memory stays bounded.
500 idle connections stand beside it all the while. Prints a table; the exit status is 1 if a
promise broke.
"""

import argparse
import asyncio
import contextlib
import json
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from tests.chaos.shots import KINDS, Shot, good_images, inflating
from tests.stores import publish_tiny
from tests.support import Server

LIMITS: dict[str, object] = {
    "models": "tiny",
    "fronts": 2,
    "body_seconds": 2,
    "head_seconds": 2,
    "decode_seconds": 1,
    "log_format": "json",
}
"""Short times, so that what must end by them does so during the test."""

CLIENTS = 24
"""Connections that attack at once, beside the idle ones."""

SLOWEST_SECONDS = 1.9
"""What took longer to connect and send may meet the limits of 2 s."""

IDLE = 500
ANSWER_SECONDS = 60.0
PAUSE_SECONDS = 0.05
"""Between the pieces of a slow body."""


@dataclass
class Report:
    """What happened.

    Attributes:
        sent: connections' worth of attack, by kind.
        statuses: first answers, by kind and status; 0: closed without one.
        good: answers that had to be right and were.
        faults: what broke a promise, in words.
        seconds: how long it took.
        start_bytes: memory before (PSS of all processes).
        peak_bytes: the most during.
        end_bytes: after.
        lost: decoding helpers that were replaced.
        late: what this program sent more slowly than it meant to and than is allowed.
    """

    sent: Counter[str] = field(default_factory=Counter)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    good: int = 0
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    start_bytes: int = 0
    peak_bytes: int = 0
    end_bytes: int = 0
    lost: float = 0.0
    late: int = 0


def attack(server: Server, count: int, seed: int = 0) -> Report:
    """Send ``count`` shots to a ready server of :data:`LIMITS`."""
    report = Report()
    expected = [_scores(server.predict(image, top_k=10)) for image in good_images()]
    inflating()  # made now: it takes seconds, in which no client would send or read
    before = _processes(server)
    report.start_bytes = _memory(server)
    began = time.monotonic()
    watching = threading.Event()
    watcher = threading.Thread(target=_watch_memory, args=(server, report, watching))
    watcher.start()
    try:
        asyncio.run(_send_all(server.url, count, seed, expected, report))
    finally:
        watching.set()
        watcher.join()
    report.seconds = time.monotonic() - began
    if _processes(server) != before:
        report.faults.append("a front, a nursery or an engine died")
    if server.metric("gsop_slots", state="used"):
        report.faults.append("slots are still taken")
    for image, scores in zip(good_images(), expected, strict=True):
        if not _same(_scores(server.predict(image, top_k=10)), scores):
            report.faults.append("a good image is answered otherwise than before")
    report.lost = server.metric("gsop_decoders_lost_total")
    if server.metric("gsop_decoders_lost_total", reason="forbidden"):
        report.faults.append("a decoder's cage refused what an image needs")
    report.end_bytes = _memory(server)
    log = "".join(server.log)
    if "defect" in log or "unforeseen" in log:
        report.faults.append("a defect is in the log")
    return report


async def _send_all(
    url: str, count: int, seed: int, expected: list[dict[str, float]], report: Report
) -> None:
    address = urlsplit(url)
    where = (address.hostname or "", address.port or 0)
    rng = np.random.default_rng(seed)
    names, shares = list(KINDS), np.array([share for share, _ in KINDS.values()])
    chosen = iter(rng.choice(len(names), size=count, p=shares / shares.sum()).tolist())

    async def client() -> None:
        for kind in chosen:
            name = names[kind]
            shot = KINDS[name][1](rng)
            report.sent[name] += 1
            answers, seconds = await _fire(where, shot)
            if seconds > SLOWEST_SECONDS:
                report.late += 1  # by this client's fault: it did not get the processor in time
                allowed = shot.statuses and shot.statuses | {0, 408}
                shot = replace(shot, statuses=allowed, good=())
            _judge(name, shot, answers, expected, report)

    idle = asyncio.create_task(_stand_idle(where))
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(client())
    finally:
        idle.cancel()


async def _fire(where: tuple[str, int], shot: Shot) -> tuple[list[tuple[int, bytes]], float]:
    """Send a shot; status and body of each answer, and the seconds that sending took."""
    wanted = max(1, len(shot.good))
    began, seconds = time.monotonic(), 0.0
    reader, writer = await asyncio.open_connection(*where)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            answers: list[tuple[int, bytes]] = []
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                try:
                    await _write(writer, shot)
                finally:
                    seconds = time.monotonic() - began
                if shot.cut is not None:
                    return [], seconds
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while len(answers) < wanted:
                    answers.append(await _read_answer(reader))
            return answers, seconds
    except TimeoutError:
        return [(-1, b"")], seconds
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def _write(writer: asyncio.StreamWriter, shot: Shot) -> None:
    data = shot.data[: shot.cut]
    step = -(-len(data) // shot.pieces)
    for at in range(0, len(data), step):
        if at:
            await asyncio.sleep(PAUSE_SECONDS)
        writer.write(data[at : at + step])
        await writer.drain()


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    )
    return int(head.split()[1]), await reader.readexactly(length)


def _judge(
    name: str,
    shot: Shot,
    answers: list[tuple[int, bytes]],
    expected: list[dict[str, float]],
    report: Report,
) -> None:
    first = answers[0][0] if answers else 0
    report.statuses[name, first] += 1
    for status, body in answers:
        if status >= 500 or status < 0:
            report.faults.append(f"{name}: {status} {body[:200]!r}")
    if shot.statuses and first not in shot.statuses:
        report.faults.append(
            f"{name}: {first}, not of {sorted(shot.statuses)}; {shot.data[:120]!r}"
        )
    for which, (status, body) in zip(shot.good, answers, strict=False):
        if status == 200 and _same(_scores(json.loads(body)), expected[which]):
            report.good += 1
        else:
            report.faults.append(f"{name}: image {which} is answered {status} {body[:200]!r}")
    if len(answers) < len(shot.good):
        report.faults.append(f"{name}: {len(answers)} answers to {len(shot.good)} good requests")


async def _stand_idle(where: tuple[str, int]) -> None:
    """Hold connections that say nothing, or half a head, and open new ones as they are closed."""

    async def hold(number: int) -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(*where)
                with contextlib.closing(writer):
                    if number % 2:
                        writer.write(b"POST /predict HTTP/1.1\r\nHost: te")
                    await reader.read()
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as group:
        for number in range(IDLE):
            group.create_task(hold(number))


def _scores(answer: dict[str, Any]) -> dict[str, float]:
    return {entry["label"]: entry["probability"] for entry in answer["predictions"]}


def _same(some: dict[str, float], others: dict[str, float]) -> bool:
    """Whether all that ``some`` lists is in ``others`` with the same probability."""
    return all(abs(others[label] - probability) < 1e-4 for label, probability in some.items())


def _processes(server: Server) -> set[int]:
    """All but decoders, which may come and go."""
    return {pid for pid, name in server.descendants().items() if name != "gsop-decoder"}


def _memory(server: Server) -> int:
    """Resident memory of all processes together; shared pages count for each, so it is too much."""
    total = 0
    for pid in server.descendants():
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    return total


def _watch_memory(server: Server, report: Report, ended: threading.Event) -> None:
    while not ended.wait(0.5):
        report.peak_bytes = max(report.peak_bytes, _memory(server))


def show(report: Report) -> str:
    """The report as text."""
    lines = [f"{'kind':<20}{'sent':>7}  first answers"]
    for name in KINDS:
        answers = sorted((s, n) for (kind, s), n in report.statuses.items() if kind == name)
        text = ", ".join(f"{status or 'closed'} × {number}" for status, number in answers)
        lines.append(f"{name:<20}{report.sent[name]:>7}  {text}")
    mib = 2**20
    lines += [
        f"{sum(report.sent.values())} connections in {report.seconds:.0f} s, beside {IDLE} idle",
        f"{report.good} good requests answered right, {len(report.faults)} faults",
        f"{report.lost:.0f} decoding helpers replaced",
        f"{report.late} were sent too slowly, for want of a processor here",
        f"memory of all processes: {report.start_bytes // mib} MiB before, "
        f"{report.peak_bytes // mib} at most, {report.end_bytes // mib} after",
        *report.faults[:50],
    ]
    return "\n".join(lines)


def main() -> int:
    """Attack a server with a small random network; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        publish_tiny(Path(folder))
        with Server(Path(folder), **LIMITS) as server:
            report = attack(server.wait_ready(), options.requests, options.seed)
    print(show(report))
    return 1 if report.faults else 0


if __name__ == "__main__":
    socket.setdefaulttimeout(ANSWER_SECONDS)
    sys.exit(main())

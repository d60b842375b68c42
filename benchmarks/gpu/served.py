"""The service on the device: its rate as a share of the raw one, its memory, and its recovery."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

from benchmarks import serve
from benchmarks.gpu.machine import memory_mib
from benchmarks.gpu.rows import Report
from benchmarks.gpu.running import READY_SECONDS, Watch
from benchmarks.processes import members
from benchmarks.servers import Server, ours, role_of

SHARE = 0.90
"""The least share of the raw forward's rate that is served."""

MEMORY_OFF = 64
"""MiB that the device's memory may differ by, from one engine to its successor."""

SLOTS = "1024"
"""More than there are connections, however unevenly the fronts get them."""

WRK_THREADS = 4


def throughput(
    report: Report,
    store: Path,
    model: str,
    body: bytes,
    connections: Sequence[int],
    *,
    seconds: float,
    fastest: float,
    **settings: str,
) -> None:
    """The rate at each number of connections, and the best as a share of ``fastest``."""
    rates = []
    for count in connections:
        before = memory_mib()
        kind = ours(slots=SLOTS, **settings)
        load = {"connections": count, "threads": min(WRK_THREADS, count)}
        with Watch() as watch:
            seen = serve.measure(kind, model, store, body, seconds=seconds, **load)
        rates.append(seen.rate)
        batch = "" if seen.batch is None else f", {seen.batch:.1f} images a batch"
        times = f"p50 {seen.p50_ms:.1f} ms, p99 {seen.p99_ms:.1f} ms{batch}"
        report.tell(f"served, {count} connections", f"{seen.rate:.0f} images/s, {times}")
        report.tell(f"CPU of an image, {count} connections", f"{seen.cpu_ms:.2f} ms")
        report.at_most(f"errors, {count} connections", seen.errors, 0, "{:.0f}")
        if settings.get("device") != "cpu":  # there engines compute
            watch.check(report, f"{count} connections", seconds)
        after = memory_mib()
        if before is not None and after is not None:
            report.at_most("device memory that a service leaves, MiB", after - before, MEMORY_OFF)
    report.at_least("served as a share of raw", max(rates) / fastest, SHARE, "{:.2f}")


def kills(
    report: Report, store: Path, model: str, body: bytes, times: int, **settings: str
) -> None:
    """Kill -9 of the engine under load: nothing is lost, and memory comes back."""
    with Server(ours(slots=SLOTS, **settings), model, store, body) as server, Load(server) as load:
        used, longest = [memory_mib()], 0.0
        for _ in range(times):
            time.sleep(1)
            killed = engine_of(server)
            assert killed is not None, server.log()
            os.kill(killed, signal.SIGKILL)
            longest = max(longest, _seconds_to_successor(server, killed))
            time.sleep(1)
            used.append(memory_mib())
        load.stop()
    report.at_least(f"answers while {times} engines were killed", load.right, 10 * times, "{:.0f}")
    report.at_most("requests that failed", load.wrong, 0, "{:.0f}")
    report.at_most("seconds to a successor that is ready", longest, READY_SECONDS, "{:.1f}")
    known = [mib for mib in used if mib is not None]
    if known:
        report.at_most("device memory, off between engines, MiB", max(known) - min(known),
                       MEMORY_OFF)  # fmt: skip


class Load:
    """Eight clients that ask again and again. A context manager."""

    def __init__(self, server: Server) -> None:
        self.right = self.wrong = 0
        self._server, self._ended = server, threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(8)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask no more, and take the last answers."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._ended.is_set():
            try:
                good = self._server.ask()[0] == 200
            except (OSError, HTTPException):
                good = False
            with self._lock:
                self.right += good
                self.wrong += not good


def engine_of(server: Server) -> int | None:
    """The engine's process; ``None`` while there is none."""
    for pid in members(server.pid, server.mark):
        with suppress(OSError):
            if role_of(pid) == "engine":
                return pid
    return None


def _seconds_to_successor(server: Server, killed: int) -> float:
    began = time.monotonic()
    while time.monotonic() < began + 4 * READY_SECONDS:
        if engine_of(server) not in (None, killed) and '"status":"ready"' in server.text("/readyz"):
            break
        time.sleep(0.05)
    return time.monotonic() - began

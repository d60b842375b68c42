"""The service on the device, by itself: how it starts, who has the device, what ends its engine."""

import os
import re
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Self

from PIL import Image

from benchmarks.gpu.failing import FAILED, MARK
from benchmarks.gpu.machine import holders, memory_mib
from benchmarks.gpu.rows import Report
from benchmarks.models import DIGITS
from benchmarks.processes import members, parse_stat
from benchmarks.servers import Kind, Server, ours, role_of

READY_SECONDS = 20.0
"""The most that it may take until it answers: at a start, and after an engine has died."""

FAILING = "benchmarks.gpu.failing:FailsOnce"

TOLD = "the device failed"
"""Of an engine's log, when its device has failed."""

DIGITS_STORE = ("digits", DIGITS.parent)

GROWS = 64
"""MiB that the device's memory may grow by under a load that stays the same."""

SETTLES_SECONDS = 2.0
"""Of a load, until it is as it stays."""


def check_start(report: Report, device: str, **settings: str) -> None:
    """Seconds to ready, what the metrics name, and that a device is opened by its engine alone."""
    with Server(_of_pngs(device=device, **settings), *DIGITS_STORE, grey(0)) as server:
        what, seconds = f"{device}: seconds until it answers", server.ready_seconds
        if device == "cpu":  # on whatever processors
            report.tell(what, f"{seconds:.1f}")
        else:
            report.at_most(what, seconds, READY_SECONDS, "{:.1f}")
        names, deadline = device.split(","), time.monotonic() + READY_SECONDS
        # It answers as soon as one engine is there; the others follow.
        while not set(names) <= (told := engines_told(server.text("/metrics"))).keys():
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        known = [name for name in names if told.get(name)]
        found = ", ".join(f"{name} in {precision}" for name, precision in told.items())
        report.check(f"{device}: gsop_engine_info", known == names, found, "each device")
        pids = sorted(members(server.pid, server.mark))
        open_ = [role_of(pid) for pid in holders(pids)]
    what = f"{device}: processes that have a GPU open"
    if not open_:
        report.skip(what, "none shows a GPU's file, as in some sandboxes and on no GPU")
        return
    report.check(what, open_ == ["engine"] * len(names), ", ".join(open_), "an engine a device")


def engines_told(metrics: str) -> dict[str, str]:
    """From devices to precisions, as ``gsop_engine_info`` has them."""
    labels = [
        dict(re.findall(r'(\w+)="([^"]*)"', line))
        for line in metrics.splitlines()
        if re.match(r"gsop_engine_info\{.*\} 1(\.0)?$", line)
    ]
    return {label["device"]: label["precision"] for label in labels}


def check_failure(report: Report, device: str, backend: str = FAILING, **settings: str) -> None:
    """A kernel that fails ends the engine, and its successor answers what it left."""
    with tempfile.TemporaryDirectory() as folder:
        kind = _of_pngs(device=device, backend=backend, **settings)
        failed = {FAILED: str(Path(folder, "failed"))}
        kind = replace(kind, environment={**kind.environment, **failed})
        with Server(kind, *DIGITS_STORE, grey(0)) as server:
            with closing(server.connect(timeout=4 * READY_SECONDS)) as connection:
                connection.request("POST", kind.path, grey(MARK), dict(kind.headers))
                status = connection.getresponse().status
            log = server.log()
    report.check("answer to an image at which the device fails", status == 200, status, "200")
    told = TOLD in log
    report.check("what the log says of it", told, TOLD if told else log[-200:], TOLD)


def grey(value: int) -> bytes:
    """An image of which each byte has that value, as PNG."""
    file = BytesIO()
    Image.new("RGB", (32, 32), (value,) * 3).save(file, "PNG")
    return file.getvalue()


def _of_pngs(**settings: str) -> Kind:
    return replace(ours(**settings), headers={"Content-Type": "image/png"})


class Watch:
    """Looks at the device's memory and at the engines while something else goes on."""

    def __init__(self, every: float = 1.0) -> None:
        self.memory: list[float] = []
        self.processors: list[float] = []
        self._every, self._ended = every, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def check(self, report: Report, what: str, seconds: float) -> None:
        """What was seen in the last ``seconds``, of a load; before them a service starts."""
        looks = max(2, int((seconds - SETTLES_SECONDS) / self._every))
        memory = self.memory[-looks - 1 : -1]
        if len(memory) > 1:
            report.at_most(f"device memory grows by, MiB, {what}", memory[-1] - memory[0], GROWS)
        busy = self.processors[-looks - 1 : -1]
        if busy:
            mean = sum(busy) / len(busy)
            report.at_most(f"processors that an engine takes, {what}", mean, 1, "{:.2f}")

    def _look(self) -> None:
        before, since = engine_seconds(), time.monotonic()
        while not self._ended.wait(self._every):
            after, now = engine_seconds(), time.monotonic()
            shared = before.keys() & after.keys()
            if shared:
                used = sum(after[pid] - before[pid] for pid in shared)
                self.processors.append(used / len(shared) / (now - since))
            if (mib := memory_mib()) is not None and shared:
                self.memory.append(mib)
            before, since = after, now


def engine_seconds() -> dict[int, float]:
    """Processor seconds of each engine on this machine that is this user's."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            is_own = entry.name.isdigit() and entry.stat().st_uid == os.getuid()
            if is_own and role_of(int(entry.name)) == "engine":
                found[int(entry.name)] = parse_stat((entry / "stat").read_text()).seconds
        except OSError:  # it has ended
            continue
    return found

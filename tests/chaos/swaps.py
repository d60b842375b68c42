"""Versions that are swapped under load, with some among them that must never serve."""

import itertools
import os
import shutil
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import torch

from benchmarks.summary import percentile
from gsop.store.store import load, publish
from tests.chaos.clients import Load, Question, scores
from tests.chaos.deaths import BACK_SECONDS, CLIENTS, IMAGES, engine_of, ticks
from tests.chaos.memory import open_files, resident_bytes
from tests.chaos.report import Report
from tests.chaos.shots import request
from tests.stores import publish_tiny
from tests.support import Server, eventually

GOOD = ("1", "2", "3")
EVERY_SECONDS = 2.0
SETTLED = 20
"""Swaps after which memory may not grow any more."""


def publish_versions(store: Path) -> None:
    """Versions of ``tiny`` that are good, and three that cannot serve, if they are not there."""
    for seed, version in enumerate(GOOD):
        if not (store / "tiny" / version).exists():
            publish_tiny(store, version=version, seed=seed)
    if (store / "tiny" / "nan").exists():
        return
    publish_tiny(store, version="corrupt", seed=7)
    weights = store / "tiny" / "corrupt" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    publish_tiny(store, version="too-large", seed=8, size=4096)  # 50 MB a slot
    publish_nan(store)


def publish_nan(store: Path) -> None:
    """A version with finite weights that answers NaN."""
    folder = publish_tiny(store, version="finite", seed=9)
    manifest, network = load(folder)
    with torch.no_grad():
        for parameter in network.head.parameters():
            parameter.fill_(3e38)
    publish(
        store,
        network,
        name="tiny",
        version="nan",
        input=manifest.input,
        labels=manifest.labels,
        metrics={},
        provenance={},
    )
    shutil.rmtree(folder)


class Operator:
    """Changes versions by HTTP."""

    def __init__(self, server: Server) -> None:
        self._http = server.http
        self.stable = "1"

    def load(self, version: str) -> tuple[int, dict[str, Any]]:
        answer = self._http.post(f"/models/tiny/versions/{version}/load", timeout=BACK_SECONDS)
        return answer.status_code, answer.json()

    def unload(self, version: str) -> int:
        path = f"/models/tiny/versions/{version}/unload"
        return self._http.post(path, timeout=BACK_SECONDS).status_code

    def spread(self, traffic: dict[str, Any]) -> httpx.Response:
        etag = self._http.get("/models/tiny").headers["ETag"]
        return self._http.put("/models/tiny/traffic", json=traffic, headers={"If-Match": etag})

    def go(self, way: str) -> httpx.Response:
        """Promote or roll back."""
        return self._http.post(f"/models/tiny/{way}")

    def swap(self, version: str) -> list[str]:
        """Load, half of the requests, all of them, and the old one unloaded; what went wrong."""
        faults = []
        status, told = self.load(version)
        if status != 200:
            faults.append(f"{version} was not loaded: {told}")
        answers = [
            self.spread({"stable": self.stable, "canary": version, "percent": 50}),
            self.go("promote"),
        ]
        faults += [answer.text for answer in answers if answer.status_code != 200]
        if (status := self.unload(self.stable)) != 200:
            faults.append(f"{self.stable} was not unloaded: {status}")
        self.stable = version
        return faults


def questions_of(server: Server, operator: Operator) -> list[Question]:
    """One request an image, with each good version's answers, which are asked for in peace."""
    by_image: list[dict[str, Any]] = [{} for _ in IMAGES]
    for version in GOOD:
        operator.load(version)
        for image, expected in zip(IMAGES, by_image, strict=True):
            expected[version] = scores(server.predict(image, version=version, top_k=10))
    for version in GOOD[1:]:
        operator.unload(version)
    return [
        Question(request(image), by_version=expected)
        for image, expected in zip(IMAGES, by_image, strict=True)
    ]


def swap_versions(store: Path, seconds: float) -> Report:
    """Versions swapped every 2 s, engines killed, bad ones thrown in: no request fails."""
    publish_versions(store)
    report = Report()
    with Server(store, models="tiny/1", fronts=2, slots=1024, load_seconds=60) as server:
        operator = Operator(server.wait_ready())
        asked = questions_of(server, operator)
        with Load(server.url, asked, CLIENTS) as quiet:
            time.sleep(seconds / 4)
        swaps = kills = 0
        next_good, bad = _others(GOOD), itertools.cycle(("corrupt", "nan", "too-large"))
        with Load(server.url, asked, CLIENTS) as load:
            for number in ticks(seconds, EVERY_SECONDS):
                report.faults += operator.swap(next_good(operator.stable))
                swaps += 1
                if number % 2:
                    status, told = operator.load(name := next(bad))
                    report.check(status == 422, f"{name} was answered {status}: {told}")
                if number % 3 == 0:
                    os.kill(eventually(lambda: engine_of(server), BACK_SECONDS), signal.SIGKILL)
                    kills += 1
        tally = load.tally
        report.note(
            swaps=swaps,
            kills=kills,
            answered_right=tally.right,
            by_version=dict(sorted(tally.versions.items())),
            failed=tally.failed or 0,
            p99_ms=f"{_p99(load):.0f} (without swaps {_p99(quiet):.0f})",
            longest_wait=f"{tally.seconds:.1f} s",
        )
        report.check(tally.right > swaps, "hardly anything was answered")
        report.check(not tally.failed, f"requests failed: {tally.failed}")
        report.check(not quiet.tally.failed, f"requests failed before: {quiet.tally.failed}")
    return report


def many_swaps(store: Path, seconds: float) -> Report:
    """200 swaps for a minute: memory and descriptors stay what they are."""
    swaps = round(200 * seconds / 60)
    publish_versions(store)
    report = Report()
    with Server(store, models="tiny/1", fronts=1) as server:
        operator = Operator(server.wait_ready())
        asked = questions_of(server, operator)
        next_good = _others(GOOD)
        before: dict[str, tuple[int, int]] = {}
        with Load(server.url, asked, 4) as load:
            for number in range(swaps):
                report.faults += operator.swap(next_good(operator.stable))
                if number + 1 == min(SETTLED, swaps // 2):
                    before = _held(server)
        eventually(lambda: server.metric("gsop_slots", state="used") == 0)
        after = _held(server)
        report.note(swaps=swaps, answered_right=load.tally.right, failed=load.tally.failed or 0)
        for name, (memory, files) in before.items():
            grown = (after[name][0] - memory) / 2**20
            report.note(**{f"{name}_grew": f"{grown:.1f} MiB, {after[name][1] - files} files"})
            report.check(grown < 24, f"{name} grew by {grown:.1f} MiB")
            report.check(after[name][1] - files < max(4, swaps // 10), f"{name} holds more files")
        report.check(not load.tally.failed, f"requests failed: {load.tally.failed}")
    return report


def shares(store: Path, seconds: float) -> Report:
    """20 000 requests for a minute at 20 %, within the binomial's bound; changes, at once."""
    requests = round(20_000 * seconds / 60)
    publish_versions(store)
    report = Report()
    with Server(store, models="tiny/1", fronts=2, slots=256) as server:
        operator = Operator(server.wait_ready())
        asked = questions_of(server, operator)
        operator.load("2")
        operator.spread({"stable": "1", "canary": "2", "percent": 20})
        with Load(server.url, asked, CLIENTS) as load:
            eventually(lambda: load.tally.right >= requests or load.tally.failed, 600)
        answered = load.tally.versions.total()
        canary = load.tally.versions["2"]
        deviation = (answered * 0.2 * 0.8) ** 0.5
        report.note(answered=answered, canary=canary, expected=f"{answered / 5:.0f}")
        report.note(standard_deviations=f"{(canary - answered / 5) / deviation:+.2f}")
        report.check(abs(canary - answered / 5) < 4 * deviation, "the share is not kept")
        with Load(server.url, asked, CLIENTS) as load:
            before = {"stable": "1", "canary": "2"}
            for name, change, version in (
                ("share", partial(operator.spread, before | {"percent": 100}), "2"),
                ("rollback", partial(operator.go, "rollback"), "1"),
                ("small_share", partial(operator.spread, before | {"percent": 1e-9}), "1"),
                ("promote", partial(operator.go, "promote"), "2"),
            ):
                time.sleep(1)
                began = time.monotonic()
                change()
                took = time.monotonic() - began
                report.note(**{f"{name}_in_force_after": f"{took * 1000:.0f} ms"})
                report.check(took < 1, f"{name} took {took:.2f} s")
                by = {server.predict(image)["model"]["version"] for image in IMAGES}
                report.check(by == {version}, f"right after {name}, versions {by} answered")
        report.check(not load.tally.failed, f"requests failed: {load.tally.failed}")
    return report


def _held(server: Server) -> dict[str, tuple[int, int]]:
    """Memory and descriptors of the processes that outlive a generation."""
    eventually(lambda: list(server.descendants().values()).count("gsop-engine-0") == 1)
    time.sleep(1)  # the last generation has left, and its descriptors go
    pids = {"supervisor": server.process.pid, "front": server.child("gsop-front-0")}
    return {name: (resident_bytes(pid), open_files(pid)) for name, pid in pids.items()}


def _others(versions: tuple[str, ...]) -> Any:
    turns: Iterator[str] = itertools.cycle(versions)

    def following(present: str) -> str:
        return next(version for version in turns if version != present)

    return following


def _p99(load: Load) -> float:
    return percentile([took for took, _ in load.tally.took], 99) * 1000

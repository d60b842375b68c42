"""How fast the device computes, what the gates cost, and what each way to compute is worth."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.right import opened
from benchmarks.gpu.rows import Report
from benchmarks.summary import figure
from gsop.backends.base import Backend
from gsop.images import InputSpec
from gsop.model.config import GSoPResNetConfig
from gsop.model.resnet import GSoPResNet
from gsop.settings import Precision
from gsop.store.store import publish

GATES_COST = 0.08
"""The most that the gates may add to the forward of the same backbone."""

PROBABILITIES_OFF = 0.05
"""The most that a way to compute may move a probability of random weights, in bfloat16."""

WAYS = (
    "convolutions=fused",
    "residuals=fused",
    "covariance=products",
    "positions=sliced",
    "search=measured",
    "convolutions=fused,residuals=fused,covariance=products,positions=sliced",
)
"""That are measured each time; ``convolutions=compiled`` takes minutes, and is asked for."""


def publish_pair(store: Path, config: GSoPResNetConfig, spec: InputSpec) -> dict[str, Path]:
    """The network, and its backbone without gates."""
    torch.manual_seed(0)
    return {
        name: publish(
            store,
            GSoPResNet(chosen).eval(),
            name=f"pair-{name}",
            version="1",
            input=spec,
            labels=[str(i) for i in range(chosen.num_classes)],
            metrics={},
            provenance={"made by": "benchmarks"},
        )
        for name, chosen in (("gsop", config), ("plain", replace(config, attention="none")))
    }


def precision_of(device: str) -> Precision:
    """What is served by default."""
    return "float32" if device == "cpu" else "bfloat16"


def warm(folder: Path, device: str, batch: int, options: str = "") -> Backend[Any]:
    """Opened and warmed up."""
    backend = opened(folder, device, precision_of(device), batch, options)
    backend.warm_up()
    return backend


def seconds_of(backend: Backend[Any], batches: int) -> float:
    """Of a full batch, as the engine submits them: as many in flight as the backend bears.

    By the device's own clock where it has one: from the first batch's arrival to the last answer.
    """
    run_batches(backend, 3)  # clocks rise
    clock = _Clock(backend)
    run_batches(backend, batches)
    return clock.seconds() / batches


def run_batches(backend: Backend[Any], batches: int) -> None:
    """Full ones, of noise, as the engine submits them."""
    spec = backend.manifest.input
    shape = (spec.height, spec.width, 3)
    images = list(np.random.default_rng(0).integers(0, 256, (8, *shape), np.uint8))
    images = [images[i % 8] for i in range(backend.max_batch)]
    flying: list[Any] = []
    for _ in range(batches):
        if len(flying) == backend.depth:
            backend.result(flying.pop(0))
        flying.append(backend.submit(images))
    for pending in flying:
        backend.result(pending)


class _Clock:
    """The device's events, or the host's clock where the host computes."""

    def __init__(self, backend: Backend[Any]) -> None:
        self._events = [
            torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch's own
            for _ in range(0 if backend.computes_here else 2)
        ]
        self._began = time.perf_counter()
        for event in self._events[:1]:
            event.record()

    def seconds(self) -> float:
        """Since it was made."""
        if not self._events:
            return time.perf_counter() - self._began
        self._events[1].record()
        self._events[1].synchronize()
        return float(self._events[0].elapsed_time(self._events[1])) / 1000


def raw(
    report: Report, folder: Path, device: str, sizes: Sequence[int], batches: int, options: str
) -> dict[int, float]:
    """Images a second by size of batch, of the ways that are served."""
    found = {}
    for size in sizes:
        backend = warm(folder, device, size, options)
        seconds = [seconds_of(backend, batches) for _ in range(3)]
        found[size] = size / median(seconds)
        times = figure([1000 * s for s in seconds], 2)
        report.tell(f"raw forward, batch {size}", f"{found[size]:.0f} images/s, {times} ms")
        del backend
    return found


def gates(report: Report, pair: dict[str, Path], device: str, batch: int, options: str) -> None:
    """What they add to the backbone's time, in turns."""
    made = {name: warm(folder, device, batch, options) for name, folder in pair.items()}
    times: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(5):
        for name, backend in made.items():
            times[name].append(seconds_of(backend, 20 if device != "cpu" else 2))
    cost = median(times["gsop"]) / median(times["plain"]) - 1
    what = f"gates' cost over the backbone, batch {batch} {options}".strip()
    if device == "cpu":
        report.tell(what, f"{cost:+.1%}")
    else:
        report.at_most(what, cost, GATES_COST, "{:+.1%}")


def ways(report: Report, folder: Path, device: str, batch: int, names: Sequence[str]) -> str:
    """Each way beside the plain one: as right, and how much sooner; the soonest that is right."""
    plain = warm(folder, device, batch)
    spec = plain.manifest.input
    shape = (batch, spec.height, spec.width, 3)
    images = list(np.random.default_rng(1).integers(0, 256, shape, np.uint8))
    expected = plain.result(plain.submit(images)).copy()
    best, least = "", 1.0
    for name in names:
        backend = warm(folder, device, batch, name)
        off = float(np.abs(backend.result(backend.submit(images)) - expected).max())
        report.at_most(f"{name}: answers off the plain way's", off, PROBABILITIES_OFF)
        ratios = [
            seconds_of(backend, 20 if device != "cpu" else 2)
            / seconds_of(plain, 20 if device != "cpu" else 2)
            for _ in range(3)
        ]
        report.tell(f"{name}: time over the plain way's", figure(ratios, 3))
        if off <= PROBABILITIES_OFF and median(ratios) < least:
            best, least = name, median(ratios)
        del backend
    return best

"""Where the device's time goes: the kernels of a batch, and the pauses between them."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch

from benchmarks.gpu.rows import Report
from benchmarks.gpu.speed import run_batches
from gsop.backends.base import Backend

PAUSE = 50e-6
"""Seconds. A longer one is a device that waits for its host."""

LISTED = 8
"""Kernels that are told, those that take longest."""

CHANGES_LAYOUT = ("nchwtonhwc", "nhwctonchw")
"""Of cuDNN's kernels that bring a map into another layout: channels last needs none."""

CONVOLVES = ("conv", "gemm", "fprop", "xmma", "cutlass", "nvjet", "cudnn")
"""Of kernels that multiply matrices; what is none of them passes over memory."""


class Kernel(NamedTuple):
    """One launch of it, or a copy.

    Attributes:
        name: as the driver has it.
        start: seconds, of a clock of the profiler's.
        seconds: that it took.
    """

    name: str
    start: float
    seconds: float


def profiled(backend: Backend[object], batches: int) -> list[Kernel]:
    """What runs on the device while it computes full batches, in its order."""
    run_batches(backend, 3)
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as seen:
        run_batches(backend, batches)
    found = [
        Kernel(event.name, event.time_range.start / 1e6, event.time_range.elapsed_us() / 1e6)
        for event in seen.events() or ()
        if event.device_type.name == "CUDA"
    ]
    return sorted(found, key=lambda kernel: kernel.start)


def check_kernels(report: Report, kernels: Sequence[Kernel], batches: int) -> None:
    """What is seen of ``batches`` batches."""
    if not kernels:
        report.skip("kernels of a batch", "the profiler saw none (CUPTI may not be allowed here)")
        return
    times: dict[str, float] = defaultdict(float)
    for kernel in kernels:
        times[kernel.name] += kernel.seconds
    total = sum(times.values())
    report.tell("kernels and copies of a batch", f"{len(kernels) / batches:.0f}")
    for name, seconds in sorted(times.items(), key=lambda item: -item[1])[:LISTED]:
        what = f"{1e3 * seconds / batches:.3f} ms a batch, {seconds / total:.0%}"
        report.tell(f"kernel {' '.join(name.split())[:70]}", what)
    multiplying = sum(s for name, s in times.items() if _is_one_of(name, CONVOLVES))
    report.tell("of the kernels' time, passes over memory", f"{1 - multiplying / total:.0%}")
    changing = sum(_is_one_of(kernel.name, CHANGES_LAYOUT) for kernel in kernels)
    report.at_most("kernels that change a map's layout", changing, 0, "{:.0f}")
    # One batch's end and the next one's beginning may be apart; kernels of a batch may not.
    long = sum(pause > PAUSE for pause in pauses(kernels))
    report.at_most("pauses of more than 50 µs, a batch", long / batches, 1, "{:.2f}")


def pauses(kernels: Sequence[Kernel]) -> list[float]:
    """Seconds in which none of them runs, each time; they may overlap."""
    found, end = [], None
    for kernel in sorted(kernels, key=lambda one: one.start):
        if end is not None and kernel.start > end:
            found.append(kernel.start - end)
        end = max(kernel.start + kernel.seconds, end if end is not None else kernel.start)
    return found


def _is_one_of(name: str, words: Sequence[str]) -> bool:
    return any(word in name.lower() for word in words)

"""See :mod:`benchmarks.gpu`."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks import bodies, models, serve
from benchmarks.gpu import right, served, speed
from benchmarks.gpu.rows import Report
from gsop.backends.gpus import NEEDED_DRIVERS, why_none
from gsop.images import InputSpec
from gsop.model.config import GSoPResNetConfig

NO_GPU = 2
"""Exit status: there is nothing to measure."""

CORES = 16
"""That the goals are meant for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check and measure what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description="Is this GPU right, and how fast is it?"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--short", action="store_true", help="a small network, few batches")
    parser.add_argument("--tests", action="store_true", help="run the tests marked gpu first")
    parser.add_argument("--batch", type=int, default=64, help="GSOP_MAX_BATCH of what is served")
    parser.add_argument("--options", default="", help="GSOP_CUDA_OPTIONS of what is served")
    parser.add_argument("--ways", nargs="*", default=speed.WAYS, help="GSOP_CUDA_OPTIONS to try")
    parser.add_argument("--seconds", type=float, default=10, help="of load, each time")
    parser.add_argument("--name", help="of the result's file; not written if empty")
    chosen = parser.parse_args(arguments)
    on_gpu = torch.device(chosen.device).type == "cuda"
    if on_gpu and not torch.cuda.is_available():
        reason = why_none(torch.__version__, torch.version.cuda, os.environ)
        print(
            f"no GPU is here that torch can use: {reason or 'run it on a machine that has one'}. "
            "`python -m benchmarks.gpu --device cpu --short` shows that the script works.",
            file=sys.stderr,
        )
        return NO_GPU
    report = Report()
    report.tell("measured on", torch.cuda.get_device_name(chosen.device) if on_gpu else "no GPU")
    for name, look in _parts(report, chosen, on_gpu=on_gpu).items():
        try:
            look()
        except Exception as error:  # noqa: BLE001  # a part that breaks is a row that fails
            report.check(name, False, f"{type(error).__name__}: {error}", "no error")
    print(f"\n{report.table()}\n")
    if chosen.name:
        content = {"setting": vars(chosen), "rows": report.content()}
        print(f"saved {serve.save(chosen.name, content)}")
    for row in report.failed:
        print(f"FAIL  {row.what}: {row.found} ({row.goal})", file=sys.stderr)
    return 1 if report.failed else 0


def _parts(
    report: Report, chosen: argparse.Namespace, *, on_gpu: bool
) -> dict[str, Callable[[], None]]:
    """What is looked at, in order, by name."""
    parts: dict[str, Callable[[], None]] = {}
    if on_gpu:
        parts["machine"] = partial(_machine, report)
    if chosen.tests:
        parts["tests"] = partial(_tests, report)
    count = 12 if chosen.short else 300
    settings = {"device": chosen.device, "cuda_options": chosen.options}
    parts["answers"] = partial(right.check_served, report, count=count, **settings)
    parts["speed"] = partial(_speed, report, chosen, on_gpu=on_gpu)
    if not chosen.short:
        parts["training"] = partial(right.check_training, report, chosen.device)
    return parts


def _machine(report: Report) -> None:
    """What the goals take for granted."""
    query = "name,driver_version,memory.total,mig.mode.current,compute_mode"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    seen = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    report.tell("nvidia-smi", seen.replace("\n", "; "))
    needed = NEEDED_DRIVERS.get(int((torch.version.cuda or "0").partition(".")[0]), 0)
    driver = int(seen.split(", ")[1].partition(".")[0])
    report.at_least("NVIDIA driver", driver, needed, "{:.0f}")
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]  # torch's own
    report.tell("torch, cuDNN", f"{torch.__version__}, {cudnn}")
    cores = len(os.sched_getaffinity(0))
    report.tell("processors", f"{cores} (the goals are meant for {CORES})")


def _tests(report: Report) -> None:
    """Those that need a GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = (done.stdout.strip().splitlines() or [""])[-1].strip("= ")
    good = done.returncode == 0 and "passed" in last and "skipped" not in last
    report.check("tests marked gpu", good, last, "all passed, none skipped")


def _speed(report: Report, chosen: argparse.Namespace, *, on_gpu: bool) -> None:
    """Raw, with and without gates, in each way, and served."""
    config, spec, batch, batches = GSoPResNetConfig(depth=50), models.INPUT, chosen.batch, 100
    sizes: Sequence[int] = sorted({1, 8, batch, 256})
    if chosen.short:
        config = GSoPResNetConfig(depth=18, stem="cifar", base_width=8, num_classes=10)
        spec = InputSpec(height=32, width=32, resize=32, mean=spec.mean, std=spec.std)
        batch, batches, sizes = 4, 3, (1, 4)
    device = chosen.device
    with tempfile.TemporaryDirectory(prefix="gsop-bench-") as folder:
        store = Path(folder)
        pair = speed.publish_pair(store, config, spec)
        for options in dict.fromkeys(("", chosen.options, "sizes=fine")):
            right.check_graphs(report, pair["gsop"], device, batch, options)
        rates = speed.raw(report, pair["gsop"], device, sizes, batches, chosen.options)
        best = speed.ways(report, pair["gsop"], device, batch, chosen.ways)
        report.tell("the soonest way", best or "the plain one")
        for options in dict.fromkeys((chosen.options, best)):
            speed.gates(report, pair, device, batch, options)
        if chosen.short:
            return
        models.publish_models(store)
        body = bodies.jpeg("small")
        settings = {
            "device": device,
            "max_batch": str(batch),
            "cuda_options": chosen.options,
        }
        model = "resnet50"
        served.kills(report, store, model, body, times=3, **settings)
        if shutil.which("wrk") is None:
            report.check("served", False, "wrk is missing", "apt-get install wrk")
            return
        served.throughput(
            report,
            store,
            model,
            body,
            (64, 256, 512),
            seconds=chosen.seconds,
            fastest=rates[batch],
            **settings,
        )


if __name__ == "__main__":
    sys.exit(main())

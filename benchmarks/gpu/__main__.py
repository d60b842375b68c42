"""See :mod:`benchmarks.gpu`."""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from benchmarks import bodies, models, serve
from benchmarks.gpu import kernels, machine, right, running, served, speed
from benchmarks.gpu.rows import Report
from gsop.backends.gpus import why_none
from gsop.images import InputSpec
from gsop.model.config import GSoPResNetConfig

NO_GPU = 2
"""Exit status: there is nothing to measure."""

SERVED_MODEL = "resnet50"


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
    parser.add_argument("--minutes", type=float, default=8, help="what is not begun then is left")
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
    with tempfile.TemporaryDirectory(prefix="gsop-bench-") as folder:
        for name, look in _parts(report, chosen, Path(folder), on_gpu=on_gpu).items():
            if report.seconds > 60 * chosen.minutes:
                report.skip(name, f"the {chosen.minutes:g} minutes are over (--minutes)")
                continue
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
    report: Report, chosen: argparse.Namespace, store: Path, *, on_gpu: bool
) -> dict[str, Callable[[], None]]:
    """What is looked at, in order, by name: what the rest rests on first, what takes long last."""
    parts: dict[str, Callable[[], None]] = {}
    devices = torch.cuda.device_count() if on_gpu else 0
    count = 12 if chosen.short else 300
    ways = {"cuda_options": chosen.options}
    if on_gpu:
        parts["machine"] = partial(machine.check_machine, report)
    if chosen.tests:
        parts["tests"] = partial(machine.check_tests, report)
    parts["start"] = partial(running.check_start, report, chosen.device, **ways)
    parts["answers"] = partial(right.check_served, report, chosen.device, count, **ways)
    if on_gpu:
        parts["other devices"] = partial(right.check_others, report, devices, count, **ways)
    parts |= _Speed(report, chosen, store).parts(on_gpu=on_gpu)
    if on_gpu:
        parts["a failing device"] = partial(running.check_failure, report, chosen.device, **ways)
    if not chosen.short:
        parts["training"] = partial(right.check_training, report, chosen.device)
    if on_gpu and not chosen.short:
        parts["torchrun"] = partial(right.check_torchrun, report, devices)
    if on_gpu:
        parts["memory accesses"] = partial(
            machine.check_memory_accesses, report, until=60 * chosen.minutes
        )
    return parts


@dataclass
class _Speed:
    """Raw, with and without gates, in each way, and served; each part goes on from the last."""

    report: Report
    chosen: argparse.Namespace
    store: Path
    pair: dict[str, Path] = field(default_factory=dict)
    rates: dict[int, float] = field(default_factory=dict)
    best: str = ""

    def parts(self, *, on_gpu: bool) -> dict[str, Callable[[], None]]:
        """By name."""
        made = {
            "graphs": self._graphs,
            "raw": self._raw,
            "ways": self._ways,
            "gates": self._gates,
        }
        if on_gpu:
            made["kernels"] = self._kernels
        return made if self.chosen.short else made | {"kills": self._kills, "load": self._load}

    @property
    def _batch(self) -> int:
        return 4 if self.chosen.short else int(self.chosen.batch)

    @property
    def _settings(self) -> dict[str, str]:
        chosen = self.chosen
        return {
            "device": chosen.device,
            "max_batch": str(self._batch),
            "cuda_options": chosen.options,
        }

    def _graphs(self) -> None:
        config, spec = GSoPResNetConfig(depth=50), models.INPUT
        if self.chosen.short:
            config = GSoPResNetConfig(depth=18, stem="cifar", base_width=8, num_classes=10)
            spec = InputSpec(height=32, width=32, resize=32, mean=spec.mean, std=spec.std)
        self.pair = speed.publish_pair(self.store, config, spec)
        for options in dict.fromkeys(("", self.chosen.options, "sizes=fine")):
            right.check_graphs(
                self.report, self.pair["gsop"], self.chosen.device, self._batch, options
            )

    def _raw(self) -> None:
        sizes: Sequence[int] = (1, 4)
        batches = 3
        if not self.chosen.short:
            sizes, batches = tuple(sorted({1, 8, self._batch, 256})), 100
        folder, device = self.pair["gsop"], self.chosen.device
        self.rates = speed.raw(self.report, folder, device, sizes, batches, self.chosen.options)

    def _ways(self) -> None:
        chosen = self.chosen
        self.best = speed.ways(
            self.report, self.pair["gsop"], chosen.device, self._batch, chosen.ways
        )
        self.report.tell("the soonest way", self.best or "the plain one")

    def _gates(self) -> None:
        for options in dict.fromkeys((self.chosen.options, self.best)):
            speed.gates(self.report, self.pair, self.chosen.device, self._batch, options)

    def _kernels(self) -> None:
        batches = 3 if self.chosen.short else 20
        for options in dict.fromkeys((self.chosen.options, self.best)):
            backend = speed.warm(self.pair["gsop"], self.chosen.device, self._batch, options)
            self.report.tell("kernels of the way", options or "plain")
            kernels.check_kernels(self.report, kernels.profiled(backend, batches), batches)

    def _kills(self) -> None:
        models.publish_models(self.store)
        body = bodies.jpeg("small")
        served.kills(self.report, self.store, SERVED_MODEL, body, times=3, **self._settings)

    def _load(self) -> None:
        if shutil.which("wrk") is None:
            self.report.check("served", False, "wrk is missing", "apt-get install wrk")
            return
        served.throughput(
            self.report,
            self.store,
            SERVED_MODEL,
            bodies.jpeg("small"),
            (64, 256, 512),
            seconds=self.chosen.seconds,
            fastest=self.rates[self._batch],
            **self._settings,
        )


if __name__ == "__main__":
    sys.exit(main())

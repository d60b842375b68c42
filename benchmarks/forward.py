"""The raw loop: batches through a backend one after the other, with nothing of a service around.

    python -m benchmarks.forward --model resnet50 --ways eager torch openvino openvino-bfloat16
    python -m benchmarks.forward --batches 8 16 --served

It is the limit for the rate that a server can reach. All ways are measured in turns (A B A B), each
batch size on its own, with all of the machine's processors; figures are medians, with half the
spread. ``eager`` is the network as it was trained, in channels-last memory; ``torch`` and
``openvino`` are what ``GSOP_BACKEND`` names, and what follows a hyphen is what ``GSOP_PRECISION``
names, float32 if nothing does. With ``--served`` the service then runs on the same
machine under load, and its rate is shown as a share of the raw loop's best.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
import torch

from benchmarks import bodies, models, serve
from benchmarks.servers import ours
from benchmarks.summary import figure, markdown
from gsop.backends.base import Backend, Pixels, Place, Values
from gsop.backends.registry import find_backend
from gsop.backends.torch_cpu import TorchCpu
from gsop.cpus import cpu_count
from gsop.model.resnet import GSoPResNet
from gsop.processes.memory import keep_freed_memory
from gsop.serving.supervisor import for_engines
from gsop.settings import Precision
from gsop.store.catalog import resolve
from gsop.store.manifest import read_manifest
from gsop.store.store import load

BATCHES = (1, 2, 4, 8, 16, 32)

HALF_CORRELATION = 0.99
"""Of answers in bfloat16 with those in float32: enough to see that it is the network. A single gate
of a network with random weights may be far off (docs/performance.md has those of a trained one)."""

Images = list[Pixels]


class Eager(TorchCpu):
    """The network as it was trained: no BN is folded, and no memory is arranged for it."""

    folder = Path()

    def _prepare(self, network: GSoPResNet, dtype: torch.dtype, threads: int) -> None:
        self._threads = threads
        torch.set_num_threads(threads)
        self._model = self._answering(network, dtype)
        _, as_trained = load(self.folder)
        self._model.network = as_trained.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs


def parts(way: str) -> tuple[str, Precision]:
    """The backend and the precision of a way."""
    backend, _, precision = way.partition("-")
    return backend, cast("Precision", precision or "float32")


def make(way: str, folder: Path, max_batch: int) -> Backend[Any]:
    """A backend on the CPU, with as many threads as torch has now."""
    backend, precision = parts(way)
    kind = Eager if backend == "eager" else find_backend(backend)
    Eager.folder = folder
    place = Place("cpu", precision, max_batch, torch.get_num_threads())
    return kind.open(folder, read_manifest(folder), place)


def pixels(backend: Backend[Any], count: int) -> Images:
    """Random images of the size that a backend takes."""
    spec = backend.manifest.input
    shape = (count, spec.height, spec.width, 3)
    return list(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def in_turns(
    ways: Mapping[str, Callable[[], object]], rounds: int, least: float = 0.2
) -> dict[str, list[float]]:
    """Seconds of one call of each way, in each round: the mean of as many as fill ``least``."""
    repeats = {}
    for name, way in ways.items():
        way()
        start = time.perf_counter()
        way()
        repeats[name] = max(1, round(least / (time.perf_counter() - start)))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                way()
            seconds[name].append((time.perf_counter() - start) / repeats[name])
    return seconds


def measure(
    folder: Path, ways: Sequence[str], batches: Sequence[int], rounds: int
) -> dict[int, dict[str, list[float]]]:
    """Seconds of a batch, by its size and by way."""
    backends = {way: make(way, folder, max(batches)) for way in ways}
    images = pixels(next(iter(backends.values())), max(batches))
    check(backends, images[: min(3, len(images))])
    found = {}
    for batch in batches:
        calls = {way: partial(run, backend, images[:batch]) for way, backend in backends.items()}
        found[batch] = in_turns(calls, rounds)
    return found


def run(backend: Backend[Any], images: Images) -> Values:
    """One batch, to its end; its answers, which the next may write over."""
    return backend.result(backend.submit(images))


def check(backends: dict[str, Backend[Any]], images: Images) -> None:
    """All ways must answer the same, gates included, as far as their precision goes."""
    answers = {way: run(backend, images).copy() for way, backend in backends.items()}
    first = next(iter(answers.values()))
    for way, answer in answers.items():
        if parts(way)[1] == "float32":
            np.testing.assert_allclose(answer, first, atol=1e-3)
        elif (found := np.corrcoef(answer.ravel(), first.ravel())[0, 1]) < HALF_CORRELATION:
            raise AssertionError(f"{way} answers otherwise: the correlation is {found:.3f}")


def table(found: dict[int, dict[str, list[float]]]) -> str:
    """A row for each batch size: milliseconds and images a second of each way."""
    ways = list(next(iter(found.values())))
    header = ["batch"]
    for way in ways:
        header += [f"{way} ms", "images/s"]
    header += [f"{way} / {ways[0]}" for way in ways[1:]]
    rows = []
    for batch, seconds in found.items():
        row = [str(batch)]
        for way in ways:
            row.append(figure([1000 * s for s in seconds[way]], 1))
            row.append(f"{batch / median(seconds[way]):.1f}")
        base = median(seconds[ways[0]])
        row += [f"{base / median(seconds[way]):.2f}×" for way in ways[1:]]
        rows.append(row)
    return markdown(header, rows)


def best_rate(found: dict[int, dict[str, list[float]]], way: str) -> float:
    """Images a second at the batch size that is best for a way."""
    return max(batch / median(seconds[way]) for batch, seconds in found.items())


def served(store: Path, model: str, way: str, seconds: float, connections: int) -> serve.Round:
    """The service with its defaults, under a closed load."""
    backend, precision = parts(way)
    settings = {"backend": backend, "precision": precision}
    body = bodies.jpeg("small")
    kind = ours(**settings)
    return serve.measure(kind, model, store, body, connections=connections, seconds=seconds)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=("resnet50", "digits"), default="resnet50")
    parser.add_argument("--ways", nargs="+", default=["eager", "torch"])
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=cpu_count())
    parser.add_argument("--served", action="store_true", help="the service's rate beside it")
    parser.add_argument("--seconds", type=float, default=20, help="of load, with --served")
    parser.add_argument("--connections", type=int, default=32, help="with --served")
    parser.add_argument("--name", help="of the result's file; not written if empty")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory(prefix="gsop-bench-") as folder:
        store = Path(folder)
        models.publish_models(store)
        manifest = resolve(store, chosen.model)
        version = store / manifest.name / manifest.version
        before = measure(version, chosen.ways, chosen.batches, chosen.rounds)
        content: dict[str, Any] = {"setting": vars(chosen), "seconds": before}
        print(f"{chosen.model}, {chosen.threads} threads, {chosen.rounds} rounds")
        print(table(before))
        if chosen.served:
            content["served"] = []
            for way in [way for way in chosen.ways if parts(way)[0] != "eager"]:
                under_load = served(store, chosen.model, way, chosen.seconds, chosen.connections)
                # Once more afterwards: the machine may have become faster or slower meanwhile.
                after = measure(version, [way], chosen.batches, chosen.rounds)
                raw = (best_rate(before, way) + best_rate(after, way)) / 2
                ratio = under_load.rate / raw
                print(
                    f"{way}: raw at best {best_rate(before, way):.2f} images/s before, "
                    f"{best_rate(after, way):.2f} after; served {under_load.rate:.2f} in batches "
                    f"of {under_load.batch or 0:.1f}: {ratio:.3f} of the raw loop"
                )
                content["served"].append(
                    {"way": way, "ratio": ratio, "raw_after": after, **asdict(under_load)}
                )
    if chosen.name:
        print(f"saved {serve.save(chosen.name, content)}")
    return content


if __name__ == "__main__":
    if (wanted := for_engines(os.environ)) != dict(
        os.environ
    ):  # it is read when torch is loaded: begin anew
        os.execve(sys.executable, sys.orig_argv, wanted)  # noqa: S606  # ourselves
    keep_freed_memory()  # as an engine does; not in main(), for it cannot be undone in a test
    main()

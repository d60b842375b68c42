"""All that there is to say about a CUDA device, in one call: is it right, and how fast is it.

    python -m benchmarks.gpu --name gpu-h100
    python -m benchmarks.gpu --device cpu --short      # that the script works, and no more

Correctness comes first: half precision against float32, and recorded graphs against the operators
that they were recorded from. Then the raw forward, what the gates cost over the same backbone
without them, and the served rate as a share of the raw one.
"""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks import bodies, models, serve
from benchmarks.forward import in_turns, pixels, run
from benchmarks.servers import ours
from benchmarks.summary import figure, markdown
from gsop.backends.base import Backend, Place
from gsop.backends.torch_device import TorchBackend
from gsop.images import InputSpec
from gsop.model.config import GSoPResNetConfig
from gsop.model.resnet import GSoPResNet
from gsop.settings import Precision
from gsop.store.manifest import read_manifest
from gsop.store.store import publish

GATES_BATCH = 64
MARKS = {"served": 0.90, "gates": 0.08}
"""The served rate's least share of the raw one, and the most that gates may cost over none."""


def opened(folder: Path, device: str, precision: Precision, max_batch: int) -> Backend[Any]:
    """A published network on the device."""
    place = Place(device, precision, max_batch, torch.get_num_threads())
    return TorchBackend.open(folder, read_manifest(folder), place)


def correctness(folder: Path, device: str, count: int) -> dict[str, float]:
    """The largest differences, and how often the best class is the same."""
    exact = opened(folder, "cpu", "float32", count)
    half = opened(folder, device, "bfloat16", count)
    images, layout = pixels(exact, count), exact.manifest.answer
    expected = run(exact, images).copy()
    operators = run(half, images).copy()
    half.warm_up()  # records the graphs, on CUDA
    graphs = run(half, images).copy()
    off = np.abs(operators - expected)
    return {
        "gates_off_float32": float(layout.gate_values(off).max(initial=0)),
        "probabilities_off_float32": float(layout.probabilities(off).max()),
        "same_best_class": float((layout.winners(operators) == layout.winners(expected)).mean()),
        "graphs_off_operators": float(np.abs(graphs - operators).max()),
    }


def pipelined(backend: Backend[Any], batch: int, batches: int) -> None:
    """As the engine does: as many batches in flight as the backend bears."""
    images = pixels(backend, 1) * batch
    flying: list[Any] = []
    for _ in range(batches):
        if len(flying) == backend.depth:
            backend.result(flying.pop(0))
        flying.append(backend.submit(images))
    for pending in flying:
        backend.result(pending)


def times(
    folders: dict[str, Path], device: str, precision: Precision, batches: Sequence[int], rounds: int
) -> dict[int, dict[str, list[float]]]:
    """Seconds of a batch, by its size and by network; the networks in turns."""
    found = {}
    for batch in batches:
        made = {name: opened(path, device, precision, batch) for name, path in folders.items()}
        for one in made.values():
            one.warm_up()
        in_flight = 8 if device != "cpu" else 1
        seconds = in_turns(
            {name: partial(pipelined, one, batch, in_flight) for name, one in made.items()},
            rounds,
        )
        found[batch] = {name: [s / in_flight for s in all_] for name, all_ in seconds.items()}
    return found


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


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Check and measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--short", action="store_true", help="a small network, few batches")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20, help="of load on the server")
    parser.add_argument("--connections", type=int, default=256)
    parser.add_argument("--fronts", type=int, default=0, help="of the server; 0: its default")
    parser.add_argument("--name", help="of the result's file; not written if empty")
    chosen = parser.parse_args(arguments)
    cuda = torch.device(chosen.device).type == "cuda"
    if cuda and not torch.cuda.is_available():
        parser.error("no CUDA device is here: run it where there is one, or with --device cpu")
    name = torch.cuda.get_device_name(chosen.device) if cuda else "the CPU: NO CUDA DEVICE"
    print(f"measured on {name}")
    config, spec = GSoPResNetConfig(depth=50), models.INPUT
    batches: Sequence[int] = (1, 8, 64, 256)
    gates_batch, count = GATES_BATCH, 64
    if chosen.short:
        config = GSoPResNetConfig(depth=18, stem="cifar", base_width=8, num_classes=10)
        spec = InputSpec(height=32, width=32, resize=32, mean=spec.mean, std=spec.std)
        batches, gates_batch, count = (1, 4), 4, 4
    precision: Precision = "bfloat16" if cuda else "float32"
    with tempfile.TemporaryDirectory(prefix="gsop-bench-") as folder:
        store = Path(folder)
        pair = publish_pair(store, config, spec)
        right = correctness(pair["gsop"], chosen.device, count)
        for what, number in right.items():
            print(f"{what:27} {number:.5f}")
        raw = times({"gsop": pair["gsop"]}, chosen.device, precision, batches, chosen.rounds)
        gates = times(pair, chosen.device, precision, [gates_batch], chosen.rounds)[gates_batch]
        rows = [
            [str(n), figure([1000 * s for s in seen["gsop"]], 2), f"{n / median(seen['gsop']):.0f}"]
            for n, seen in raw.items()
        ]
        print(markdown(("batch", "ms", "images/s"), rows))
        cost = median(gates["gsop"]) / median(gates["plain"]) - 1
        print(f"gates at batch {gates_batch}: {cost:+.1%} (mark: at most {MARKS['gates']:.0%})")
        content: dict[str, Any] = {
            "setting": vars(chosen),
            "device": name,
            "correctness": right,
            "seconds": raw,
            "gates": {"batch": gates_batch, "cost": cost, "seconds": gates},
        }
        if not chosen.short and shutil.which("wrk"):
            models.publish_models(store)
            settings = {"device": chosen.device, "fronts": str(chosen.fronts)}
            load_ = {"connections": chosen.connections, "seconds": chosen.seconds}
            body = bodies.jpeg("small")
            seen = serve.measure(ours(**settings), "resnet50", store, body, **load_)
            share = seen.rate / max(n / median(times_["gsop"]) for n, times_ in raw.items())
            print(f"served {seen.rate:.0f} images/s: {share:.2f} of raw (mark: {MARKS['served']})")
            content["served"] = asdict(seen) | {"share": share}
        else:
            print("not served: --short, or no wrk (apt-get install wrk)")
    if chosen.name:
        print(f"saved {serve.save(chosen.name, content)}")
    return content


if __name__ == "__main__":
    main()

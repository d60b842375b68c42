"""Triton's perf_analyzer, unchanged, beside ``POST /predict``: by turns against one server.

    benchmarks/peers/perf_analyzer.sh     # where it is not installed
    python -m benchmarks.perf_analyzer --model digits

All send the same JPEG or, as ``pixels``, what a decoder would make of it. perf_analyzer asks for
every output, the gates among them, so ``/predict`` is asked for these too (``attention=true``).
"""

import argparse
import base64
import csv
import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from benchmarks import bodies, closed_loop, models
from benchmarks.protocol import pixels_of
from benchmarks.servers import PEERS, Server, ours
from benchmarks.summary import figure, markdown
from gsop.api.oip.tensors import pack_elements

LOCAL = PEERS / "perf_analyzer" / "run"
"""What ``benchmarks/peers/perf_analyzer.sh`` makes."""

WINDOW_MS = 2000


class Seen(NamedTuple):
    """Of one round: answers a second, milliseconds, and the server's CPU for each answer."""

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float


class Load(NamedTuple):
    """What one round did: as :class:`Seen`, without the processor."""

    rate: float
    p50_ms: float
    p99_ms: float


def find() -> list[str]:
    """The command.

    Raises:
        SystemExit: if there is none.
    """
    for command in (LOCAL, shutil.which("perf_analyzer")):
        if command is not None and Path(command).exists():
            return [str(command)]
    raise SystemExit("perf_analyzer is missing: benchmarks/peers/perf_analyzer.sh gets it")


def inputs(folder: Path, image: bytes, pixels: bytes) -> dict[str, Path]:
    """Files that perf_analyzer reads its tensors from, as they go over the wire."""
    found = {}
    for name, data in (("image", pack_elements([image])), ("pixels", pixels)):
        found[name] = folder / f"{name}.json"
        tensor = {"b64": base64.b64encode(data).decode()}
        found[name].write_text(json.dumps({"data": [{name: tensor}]}))
    return found


def ask(model: str, address: str, protocol: str, data: Path, connections: int) -> Load:
    """One round of perf_analyzer.

    Raises:
        RuntimeError: if it fails.
    """
    table = data.with_suffix(".csv")
    command = [
        *(*find(), "-m", model, "-u", address, "-i", protocol, "--input-data", str(data)),
        *("--concurrency-range", str(connections), "-p", str(WINDOW_MS), "-s", "50", "-r", "5"),
        *("-f", str(table)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode or not table.exists():
        raise RuntimeError(f"perf_analyzer ended with {done.returncode}: {done.stdout[-2000:]}")
    return read(table.read_text())


def read(text: str) -> Load:
    """A round, of the table that perf_analyzer writes; its times are microseconds."""
    (row,) = csv.DictReader(text.splitlines())
    p50, p99 = (float(row[f"p{percent} latency"]) / 1000 for percent in (50, 99))
    return Load(float(row["Inferences/Second"]), p50, p99)


def answered(server: Server) -> float:
    """Images that the server has answered."""
    families = text_string_to_metric_families(server.text("/metrics"))
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == "gsop_images_total" and sample.labels.get("result") == "ok"
    )


def measure(model: str, store: Path, rounds: int, connections: int) -> dict[str, list[Seen]]:
    """Start one server, and ask in turn.

    Raises:
        RuntimeError: if a request failed.
    """
    image = bodies.jpeg("small")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    kind = ours(grpc_port=port)
    with tempfile.TemporaryDirectory() as folder, Server(kind, model, store, image) as server:
        files = inputs(Path(folder), image, pixels_of(image, model, store).tobytes())
        base = server.url.removesuffix("/predict")
        http, grpc = base.removeprefix("http://"), f"127.0.0.1:{port}"

        def predict() -> Load:
            found = closed_loop.run(
                f"{server.url}?attention=true",
                image,
                {"Content-Type": "image/jpeg"},
                connections=connections,
                seconds=2 * WINDOW_MS / 1000,
            )
            if found.errors:
                raise RuntimeError(f"/predict: {found.errors} requests failed")
            return Load(found.rate, found.p50_ms, found.p99_ms)

        ways: Mapping[str, Callable[[], Load]] = {
            "`POST /predict`, wrk": predict,
            "REST, `image`": lambda: ask(model, http, "http", files["image"], connections),
            "REST, `pixels`": lambda: ask(model, http, "http", files["pixels"], connections),
            "gRPC, `image`": lambda: ask(model, grpc, "grpc", files["image"], connections),
            "gRPC, `pixels`": lambda: ask(model, grpc, "grpc", files["pixels"], connections),
        }
        seen: dict[str, list[Seen]] = {name: [] for name in ways}
        predict()  # warms up
        for _ in range(rounds):
            for name, way in ways.items():
                meter, before = server.cpu(), answered(server)
                load = way()
                cpu = meter.seconds() / (answered(server) - before) * 1000
                seen[name].append(Seen(*load, cpu))
                print(name, seen[name][-1], file=sys.stderr)
    return seen


def table(seen: Mapping[str, Sequence[Seen]]) -> str:
    """A line a way: medians, and half their spread."""
    header = ("way", "answers/s", "p50 ms", "p99 ms", "CPU ms an answer")
    rows = [
        [
            name,
            figure([one.rate for one in rounds], 0),
            figure([one.p50_ms for one in rounds], 1),
            figure([one.p99_ms for one in rounds], 1),
            figure([one.cpu_ms for one in rounds], 2),
        ]
        for name, rounds in seen.items()
    ]
    return markdown(header, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=models.NAMES, default="digits")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    chosen = parser.parse_args(arguments)
    find()
    with tempfile.TemporaryDirectory(prefix="gsop-bench-") as folder:
        models.publish_models(Path(folder))
        print(table(measure(chosen.model, Path(folder), chosen.rounds, chosen.connections)))


if __name__ == "__main__":
    main()

"""The Open Inference Protocol beside ``POST /predict``, by turns against one server.

    python -m benchmarks.protocol --model digits

The first two send the same JPEG, v2 as a raw tensor; ``pixels`` sends what a decoder would make of
it, as bytes. Those of v2 ask for the five likeliest classes, which is what ``/predict`` answers.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks import bodies, closed_loop, models
from benchmarks.serve import KINDS
from benchmarks.servers import Server
from benchmarks.summary import figure, markdown
from gsop.images import decode
from gsop.store.manifest import read_manifest

CONNECTIONS = 16


class Way(NamedTuple):
    """A way to ask.

    Attributes:
        path: that is posted to.
        headers: of a request.
        body: of it.
    """

    path: str
    headers: Mapping[str, str]
    body: bytes


def ways(model: str, image: bytes, pixels: npt.NDArray[np.uint8]) -> dict[str, Way]:
    """Those that are compared.

    Args:
        model: that is asked.
        image: the file.
        pixels: what is made of it, ``(3, H, W)``.
    """
    file = {"name": "image", "shape": [1], "datatype": "BYTES"}
    decoded = {"name": "pixels", "shape": [1, *pixels.shape], "datatype": "UINT8"}
    return {
        "/predict": Way("/predict", {"Content-Type": "image/jpeg"}, image),
        "v2": _infer(model, file, len(image).to_bytes(4, "little") + image),
        "v2, pixels": _infer(model, decoded, pixels.tobytes()),
    }


def _infer(model: str, tensor: Mapping[str, object], raw: bytes) -> Way:
    told = {**tensor, "parameters": {"binary_data_size": len(raw)}}
    wanted = {"name": "probabilities", "parameters": {"classification": 5}}
    head = json.dumps({"inputs": [told], "outputs": [wanted]}, separators=(",", ":")).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    return Way(f"/v2/models/{model}/infer", length, head + raw)


def pixels_of(image: bytes, model: str, store: Path) -> npt.NDArray[np.uint8]:
    """What a model's network sees of an image, ``(3, H, W)``."""
    spec = read_manifest(store / model / "1").input
    decoded = decode(image, spec, max_pixels=50_000_000)
    return np.ascontiguousarray(decoded.transpose(2, 0, 1))


class Seen(NamedTuple):
    """Of one round: answers a second, and CPU milliseconds of the server for each."""

    rate: float
    cpu_ms: float


def measure(model: str, store: Path, rounds: int, seconds: float) -> dict[str, list[Seen]]:
    """Start one server, and ask in turn.

    Raises:
        RuntimeError: if a request failed.
    """
    image = bodies.jpeg("small")
    chosen = ways(model, image, pixels_of(image, model, store))
    seen: dict[str, list[Seen]] = {name: [] for name in chosen}
    with Server(KINDS["gsop"], model, store, image) as server:
        base = server.url.removesuffix("/predict")
        for number in range(-1, rounds):  # the first warms up
            for name, way in chosen.items():
                meter = server.cpu()
                found = closed_loop.run(
                    base + way.path,
                    way.body,
                    way.headers,
                    connections=CONNECTIONS,
                    seconds=seconds if number >= 0 else 1,
                )
                if found.errors:
                    raise RuntimeError(f"{name}: {found.errors} requests failed")
                if number >= 0:
                    cpu = meter.seconds() / found.requests * 1000
                    seen[name].append(Seen(found.rate, cpu))
                    print(name, seen[name][-1], file=sys.stderr)
    return seen


def table(seen: dict[str, list[Seen]]) -> str:
    """A line a way: medians, and half their spread."""
    header = ("way", "answers/s", "CPU ms a request", "of /predict")
    rows = []
    for name, rounds in seen.items():
        pairs = zip(rounds, seen["/predict"], strict=True)
        rows.append(
            [
                name,
                figure([r.rate for r in rounds], 0),
                figure([r.cpu_ms for r in rounds], 2),
                figure([own.cpu_ms / base.cpu_ms for own, base in pairs], 2),
            ]
        )
    return markdown(header, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=models.NAMES, default="digits")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="of load, each way each round")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="gsop-bench-") as folder:
        models.publish_models(Path(folder))
        print(table(measure(chosen.model, Path(folder), chosen.rounds, chosen.seconds)))


if __name__ == "__main__":
    main()

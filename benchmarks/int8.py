"""What 8-bit integers would cost and gain on this processor, by OpenVINO.

    pip install -c constraints.txt '.[benchmarks]'
    python -m benchmarks.int8 --model digits
    python -m benchmarks.int8 --model resnet50 --rounds 3

Post-training quantisation by NNCF, calibrated on images that the model was trained on: convolutions
and what lies between them in 8 bits, everything that only gates are made of in float32. Beside it
torch and OpenVINO in float32 and in bfloat16: how often the best class is right, how often
it is float32's, how far gates and probabilities are off, and the time of an image, in turns. The
digits are measured on the scans that were held out, and on their variants; a ResNet-50 has random
weights and random images, so of that only the times mean something.

NNCF reports each use of it unless the package that does so cannot be imported: here it cannot.
"""

import argparse
import importlib.util
import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from benchmarks import forward, models
from benchmarks.summary import markdown
from gsop.backends.answering import Answering
from gsop.backends.base import Backend, Place
from gsop.backends.openvino import OpenVINOBackend
from gsop.cpus import cpu_count
from gsop.images import decode
from gsop.processes.memory import keep_freed_memory
from gsop.store.catalog import resolve
from gsop.store.manifest import Manifest, read_manifest
from gsop.train.data.dataset import Sample
from gsop.train.data.open import open_data
from gsop.train.presets import PRESETS

BATCHES = (1, 16)
CALIBRATION = 300
"""Images to calibrate on: NNCF's own default."""

Images = list[npt.NDArray[np.uint8]]
Labels = list[int]


class Int8(OpenVINOBackend):
    """The network quantised, for what remains as OpenVINO's."""

    calibration: ClassVar[Images] = []

    def _translate(self, answering: Answering) -> Any:
        return quantise(super()._translate(answering), self.calibration)


def quantise(model: Any, images: Images) -> Any:
    """``model`` with its convolutions in 8 bits, and what only its gates need in float32."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # as Python documents it
    import nncf

    nncf.set_log_level(logging.ERROR)  # else it names every operation that it leaves alone
    return nncf.quantize(
        model,
        nncf.Dataset([image[None] for image in images]),
        subset_size=len(images),
        ignored_scope=nncf.IgnoredScope(names=only_for_gates(model), types=["MatMul"]),
    )


def only_for_gates(model: Any) -> list[str]:
    """The operations from which every way to the model's output goes through a gate's sigmoid."""
    others: set[str] = set()
    ahead = list(model.get_results())
    while ahead:
        node = ahead.pop()
        if node.get_friendly_name() not in others and node.get_type_name() != "Sigmoid":
            others.add(node.get_friendly_name())
            ahead += [value.get_source_output().get_node() for value in node.inputs()]
    return [
        node.get_friendly_name()
        for node in model.get_ops()
        if node.get_friendly_name() not in others and node.get_type_name() != "Constant"
    ]


def make(way: str, folder: Path) -> Backend[Any]:
    """``int8``, or a way of :mod:`benchmarks.forward`."""
    if way != "int8":
        return forward.make(way, folder, max(BATCHES))
    place = Place("cpu", "float32", max(BATCHES), torch.get_num_threads())
    return Int8.open(folder, read_manifest(folder), place)


def digits(manifest: Manifest) -> tuple[Images, dict[str, tuple[Images, Labels]]]:
    """Images to calibrate on, and labelled ones to measure on, by name."""
    recipe = PRESETS["digits"]
    data = open_data(recipe.data, manifest.input, recipe.augment)
    chosen = range(0, len(data), len(data) // CALIBRATION)
    calibration = [data.training_image(index, index)[0] for index in chosen][:CALIBRATION]
    variants = [sample for samples in data.variants().values() for sample in samples]
    return calibration, {
        "held out": decoded(manifest, data.held_out()),
        "variants": decoded(manifest, variants),
    }


def decoded(manifest: Manifest, samples: Sequence[Sample]) -> tuple[Images, Labels]:
    """The samples as they are served, and their classes."""
    images = [decode(s.image, manifest.input, max_pixels=10**8) for s in samples]
    return images, [sample.label for sample in samples]


def answers(backend: Backend[Any], images: Images) -> npt.NDArray[np.float32]:
    """Probabilities and gates of all images."""
    size = backend.max_batch
    batches = [images[at : at + size] for at in range(0, len(images), size)]
    return np.concatenate([forward.run(backend, batch).copy() for batch in batches])


def compare(backends: Mapping[str, Backend[Any]], images: Images, labels: Labels) -> str:
    """A row for each way: how right it is, and how far from the first."""
    layout = next(iter(backends.values())).manifest.answer
    found = {way: answers(backend, images) for way, backend in backends.items()}
    first = next(iter(found.values()))
    rows = []
    for way, values in found.items():
        best, off = layout.winners(values), np.abs(values - first)
        gates = layout.gate_values(off)
        rows.append(
            [
                way,
                f"{(best == labels).mean():.2%}",
                f"{(best == layout.winners(first)).mean():.2%}",
                *(f"{value:.4f}" for value in (gates.mean(), gates.max())),
                f"{layout.probabilities(off).max():.4f}",
            ]
        )
    header = ["way", "right", "best class as the first", "gates off, mean", "gates off, most"]
    return markdown([*header, "probabilities off, most"], rows)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=("digits", "resnet50"), default="digits")
    parser.add_argument(
        "--ways",
        nargs="+",
        default=["torch", "torch-bfloat16", "openvino", "openvino-bfloat16", "int8"],
    )
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    if "int8" in chosen.ways and importlib.util.find_spec("nncf") is None:
        parser.error(
            "NNCF is not installed: pip install -c constraints.txt '.[benchmarks]', or choose "
            "other --ways"
        )
    torch.set_num_threads(cpu_count())
    with tempfile.TemporaryDirectory(prefix="gsop-bench-") as folder:
        store = Path(folder)
        models.publish_models(store)
        manifest = resolve(store, chosen.model)
        sets: dict[str, tuple[Images, Labels]] = {}
        if chosen.model == "digits":
            Int8.calibration, sets = digits(manifest)
        else:
            shape = (16, manifest.input.height, manifest.input.width, 3)
            noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
            Int8.calibration = list(noise)
        version = store / manifest.name / manifest.version
        backends = {way: make(way, version) for way in chosen.ways}
    for name, (images, labels) in sets.items():
        print(f"{chosen.model}, {len(images)} images: {name}\n{compare(backends, images, labels)}")
    timed = Int8.calibration[: max(BATCHES)]
    found = {
        size: forward.in_turns(
            {way: partial(forward.run, b, timed[:size]) for way, b in backends.items()},
            chosen.rounds,
        )
        for size in BATCHES
    }
    print(f"{chosen.model}, {cpu_count()} threads, {chosen.rounds} rounds")
    print(forward.table(found))


if __name__ == "__main__":
    keep_freed_memory()
    main()

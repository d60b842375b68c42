"""Whether the data keep up with the training.

    python -m benchmarks.train

A folder of JPEGs (500×375, about 50 kB each) is loaded alone, by different numbers of worker
processes, and then trained on: a GSoP-ResNet-50 at 224×224 with the ``finetune`` recipe's random
crops and flips. The training's log says how much of the time it waited for images; the first row,
in which the workers start, is reported apart. Beside it, the cost of one image's steps in a loader.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.bodies import SIZES, jpeg
from benchmarks.machine import describe
from gsop.cpus import cpu_count
from gsop.images import centred, decode_whole
from gsop.train.data.augment import augment
from gsop.train.data.loader import loader
from gsop.train.data.spec import DataSpec, RandAugmentSpec
from gsop.train.log import read_log
from gsop.train.loop import train
from gsop.train.overrides import override
from gsop.train.presets import FINETUNE

CLASSES = 2
IMAGES = 128
"""Of each class: more than the batches that a round loads, so that no image comes twice soon."""


def make_folder(root: Path) -> Path:
    """Cuts of a photograph, each another, as JPEG files of about 50 kB."""
    photograph = simplejpeg.decode_jpeg(jpeg("large"))
    width, height = SIZES["small"]
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        (root / str(label)).mkdir(parents=True)
        for number in range(IMAGES):
            top = rng.integers(photograph.shape[0] - 2 * height)
            left = rng.integers(photograph.shape[1] - 2 * width)
            cut = photograph[top : top + 2 * height, left : left + 2 * width]
            pixels = cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA)
            data = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=95)
            (root / str(label) / f"{number}.jpg").write_bytes(data)
    return root


def loader_rate(folder: Path, workers: int, batches: int, batch_size: int) -> float:
    """Images a second of the loader alone, after its first batch."""
    recipe = override(FINETUNE, [f"data.path={json.dumps(str(folder))}"])
    found = iter(
        loader(
            recipe.open_data(),
            batch_size=batch_size,
            seed=0,
            steps=batches + 1,
            workers=workers,
        )
    )
    next(found)
    began = time.perf_counter()
    images = sum(len(batch.labels) for batch in found)
    return images / (time.perf_counter() - began)


def step_costs(folder: Path, rounds: int = 200) -> dict[str, float]:
    """Milliseconds of a core for each step of loading one image, as a worker does it."""
    torch.set_num_threads(1)
    data = next((folder / "0").iterdir()).read_bytes()
    pixels = decode_whole(data, max_pixels=10**8)
    crop = FINETUNE.augment.model_copy(update={"rand_augment": None})
    rand = FINETUNE.augment.model_copy(
        update={"random_crop": None, "rand_augment": RandAugmentSpec(operations=2, magnitude=7)}
    )
    cut = centred(pixels, FINETUNE.input)
    square = FINETUNE.input.model_copy(update={"resize": FINETUNE.input.height})
    ways: dict[str, Callable[[int], Any]] = {
        "decode": lambda seed: decode_whole(data, max_pixels=10**8),
        "crop, scale, flip": lambda seed: augment(pixels, FINETUNE.input, crop, seed),
        "RandAugment": lambda seed: augment(cut, square, rand, seed),
    }
    costs = {}
    for name, way in ways.items():
        began = time.process_time()
        for seed in range(rounds):
            way(seed)
        costs[name] = (time.process_time() - began) / rounds * 1000
    return costs


def training(folder: Path, run: Path, steps: int, batch_size: int) -> dict[str, float]:
    """A real run: images a second, and the share of the time waiting for data."""
    spec = DataSpec(kind="folder", path=folder)
    recipe = FINETUNE.model_copy(update={"data": spec, "backbone": None})
    recipe = override(
        recipe,
        [
            f"batch_size={batch_size}",
            "log_every=1",
            "schedule.epochs=null",
            f"schedule.steps={steps}",
            "schedule.warmup=0",
            "schedule.validate_every=0",
            "checkpoint_every=100000",
        ],
    )
    train(recipe, run, device="auto", progress=False)
    log = read_log(run)
    waiting = [value or 0.0 for value in log["waiting"]]
    rates = [value or 0.0 for value in log["images_per_second"]]
    return {
        "images_per_second": float(np.median(rates[1:])),
        "waiting": float(np.mean(waiting[1:])),
        "waiting_first": waiting[0],
    }


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_folder(Path(scratch) / "images")
        threads = torch.get_num_threads()
        costs = step_costs(folder)
        torch.set_num_threads(threads)
        workers = sorted({0, 1, cpu_count()})
        rates = {
            n: loader_rate(folder, n, batches=30, batch_size=options.batch_size) for n in workers
        }
        run = training(folder, Path(scratch) / "run", options.steps, options.batch_size)
    table = Table("what", "figure", box=MARKDOWN)
    for name, cost in costs.items():
        table.add_row(f"{name}, ms of a core an image", f"{cost:.2f}")
    for n, rate in rates.items():
        table.add_row(f"loader alone, {n} workers, images/s", f"{rate:.0f}")
    table.add_row("training a GSoP-ResNet-50, images/s", f"{run['images_per_second']:.2f}")
    table.add_row("waiting for data, share of the time", f"{run['waiting']:.2%}")
    table.add_row("the same in the first step, workers starting", f"{run['waiting_first']:.1%}")
    Console(width=100).print(table)
    result = {"machine": describe(), "costs_ms": costs, "loader": rates, "training": run}
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

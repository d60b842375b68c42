"""How the cost of a request grows: with the size of its image, and with the number of classes.

    python -m benchmarks.growth

CPU time of the parts alone, in the best of several rounds, as in :mod:`benchmarks.profile`. Images
are decoded for a network of 224 × 224 pixels.
"""

import argparse
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks import bodies, models
from benchmarks.in_process import Memories
from benchmarks.profile import best_us, engine, front
from benchmarks.serve import save
from benchmarks.summary import markdown
from gsop.images import decode
from gsop.processes.memory import keep_freed_blocks
from gsop.serving.decoder import KEPT_BYTES

SIDES = ((240, 180), (500, 375), (1000, 750), (2000, 1500), (4000, 3000))
CLASSES = (10, 1000, 20_000)


def by_size() -> dict[str, dict[str, float]]:
    """Of a JPEG: kB, and CPU ms of decoding."""
    found = {}
    for width, height in SIDES:
        body = bodies.photograph(width, height)
        us = best_us(partial(decode, body, models.INPUT, max_pixels=10**9), calls=20)
        found[f"{width} × {height}"] = {"kB": len(body) / 1000, "ms": us / 1000}
    return found


def by_classes() -> dict[str, dict[str, float]]:
    """Of a network's classes: CPU microseconds of the front's and the engine's own work."""
    found = {}
    for classes in CLASSES:
        with tempfile.TemporaryDirectory(prefix="gsop-bench-") as folder:
            models.publish_model(Path(folder), "null", replace(models.NULL, num_classes=classes))
            memories = Memories.of(Path(folder))
            parts = front(memories, bodies.jpeg("small")) | engine(memories)
        found[str(classes)] = {
            "front": parts["front: application"],
            "engine, alone": parts["engine: a batch of 1, an image's share"],
            "engine, of 8": parts["engine: a batch of 8, an image's share"],
        }
    return found


def table(first: str, found: dict[str, dict[str, float]], digits: int) -> str:
    """One row a size."""
    columns = list(next(iter(found.values())))
    rows = [[name, *(f"{row[c]:.{digits}f}" for c in columns)] for name, row in found.items()]
    return markdown([first, *columns], rows)


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", help="of the result's file; not written if empty")
    chosen = parser.parse_args()
    sizes, classes = by_size(), by_classes()
    print(table("JPEG", sizes, 2))
    print(table("classes", classes, 0))
    if chosen.name:
        content = {"setting": vars(chosen), "sizes": sizes, "classes": classes}
        print(f"saved {save(chosen.name, content)}")


if __name__ == "__main__":
    keep_freed_blocks(KEPT_BYTES)  # as decoders do
    torch.set_num_threads(1)
    main()

"""Which estimate of a batch's duration is nearest: three ways, on the same batches.

    python -m benchmarks.batch_times

Batches of ``digits`` are run on the CPU and timed: of any size in turn, and of sizes that follow a
load in steps. Two more sequences are made: a device whose times go in powers of two, as recorded
CUDA graphs do, and the first sequence on a device that becomes half as fast in its middle. Each way
expects every batch before it learns how long that batch took.
"""

import argparse
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import Protocol

from benchmarks import models, serve
from benchmarks.forward import make, pixels, run
from benchmarks.summary import markdown, percentile
from gsop.engine.times import KEPT, BatchTimes
from gsop.store.catalog import resolve

Batches = list[tuple[int, float]]
"""Sizes and seconds, in their order."""

MAX_BATCH = 16
SKIPPED = 50
"""Batches that are learned from before errors count."""


class Estimate(Protocol):
    """A way to say how long the next batch takes."""

    def learn(self, size: int, seconds: float) -> None:
        """Take in a batch."""
        ...

    def expect(self, size: int) -> float:
        """Seconds of a batch of this size."""
        ...


class MovingMean:
    """An exponential moving mean for each power of two of the size."""

    NEWEST = 0.3

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def learn(self, size: int, seconds: float) -> None:
        """Move the mean of that size's power of two."""
        known = self._seconds.setdefault(size.bit_length(), seconds)
        self._seconds[size.bit_length()] = known + self.NEWEST * (seconds - known)

    def expect(self, size: int) -> float:
        """The mean of that power of two, or of the next smaller that is known."""
        smaller = [bits for bits in self._seconds if bits <= size.bit_length()]
        return self._seconds[max(smaller)] if smaller else 0.0


class Line(BatchTimes):
    """The line through the medians, whatever is known of a size."""

    def expect(self, size: int) -> float:
        """What the line says."""
        return self.fixed + self.image * size


WAYS: dict[str, Callable[[], Estimate]] = {
    "moving mean": MovingMean,
    "line": Line,
    "size, else line": BatchTimes,
}


def timed(folder: Path, sizes: Sequence[int]) -> Batches:
    """Batches of these sizes, one after the other on the CPU."""
    backend = make("torch", folder, MAX_BATCH)
    images = pixels(backend, MAX_BATCH)
    backend.warm_up()
    found = []
    for size in sizes:
        start = time.perf_counter()
        run(backend, images[:size])
        found.append((size, time.perf_counter() - start))
    return found


def in_steps(count: int, chance: random.Random) -> Batches:
    """A device that pads to powers of two; one batch in fifty is held up."""
    found = []
    for _ in range(count):
        size = chance.randint(1, 64)
        padded = 1 << (size - 1).bit_length()
        seconds = (0.8 + 0.07 * padded) / 1000 * chance.uniform(1, 1.05)
        found.append((size, seconds * (4 if chance.random() < 0.02 else 1)))
    return found


def errors(estimate: Estimate, batches: Batches) -> list[float]:
    """How far each batch was from what was expected, as a share of what it took."""
    found = []
    for size, seconds in batches:
        found.append(abs(estimate.expect(size) - seconds) / seconds)
        estimate.learn(size, seconds)
    return found[SKIPPED:]


def measure(batches: dict[str, Batches]) -> dict[str, dict[str, list[float]]]:
    """The errors, by sequence and way."""
    return {
        name: {way: errors(kind(), of_one) for way, kind in WAYS.items()}
        for name, of_one in batches.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Time the batches, and print how far each way was from them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=1500, help="of each sequence")
    parser.add_argument("--name", help="of the result's file; not written if empty")
    chosen = parser.parse_args(arguments)
    chance = random.Random(1)  # noqa: S311  # the same sizes in every run
    by_load = [
        min(MAX_BATCH, max(1, round(chance.gauss((2, 8, 14)[index // 100 % 3], 1.5))))
        for index in range(chosen.batches)
    ]
    any_size = [chance.randint(1, MAX_BATCH) for _ in range(chosen.batches)]
    with TemporaryDirectory(prefix="gsop-bench-") as folder:
        store = Path(folder)
        models.publish_models(store)
        manifest = resolve(store, "digits")
        version = store / manifest.name / manifest.version
        sequences = {"any size": timed(version, any_size), "load in steps": timed(version, by_load)}
    sequences["powers of two"] = in_steps(chosen.batches, chance)
    middle = chosen.batches // 2
    sequences["half as fast from the middle"] = [
        (size, seconds * (1 + (index > middle)))
        for index, (size, seconds) in enumerate(sequences["any size"])
    ]
    found = measure(sequences)
    rows = [
        [
            f"{name}: {way}",
            f"{median(of_way):.3f}",
            f"{percentile(of_way, 90):.3f}",
            f"{fmean(of_way):.3f}",
        ]
        for name, ways in found.items()
        for way, of_way in ways.items()
    ]
    print(f"{chosen.batches} batches of each sequence; a median is of the newest {KEPT} of a size")
    print(markdown(["error", "median", "9 in 10 below", "mean"], rows))
    if chosen.name:
        saved = {"setting": vars(chosen), "errors": found, "batches": sequences}
        print(f"saved {serve.save(chosen.name, saved)}")


if __name__ == "__main__":
    main()

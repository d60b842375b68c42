"""Drift of the gates and familiarity of answers, on the digits: what is found, and what is not.

    python -m benchmarks.drift

The reference is made of redrawn scans of one half of the writers' scans, the live images of the
other half. Windows without any change count false alarms, also where images come again, come in
bursts that are alike, or are of three classes only; windows of changed images count what is found.
The last tables are of the reference that ships: how familiar images of other kinds are, and what
all of it costs.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.other_images import known_kinds, other_kinds, scans_of_digits
from benchmarks.serve import save
from benchmarks.summary import markdown
from gsop.backends.base import Backend, Place
from gsop.backends.torch_cpu import TorchCpu
from gsop.gates.drift import DriftWatch, Plan
from gsop.gates.population import as_logits
from gsop.gates.reference import Reference
from gsop.gates.windows import Windows
from gsop.images import Pixels
from gsop.settings import SHIPPED_STORE
from gsop.store.catalog import resolve
from gsop.store.reference import read_reference
from gsop.train.data.digits import FULL_INK
from gsop.train.data.drawing import DrawingSpec, draw

WINDOW = 1000
SIZE = 32

Answers = npt.NDArray[np.float32]
Change = Callable[[npt.NDArray[np.float32], np.random.Generator], npt.NDArray[np.float32]]

UNCHANGED: Change = lambda pixels, _: pixels  # noqa: E731  # a row of the table below


def blur(sigma: float) -> Change:
    """A Gaussian of so many pixels."""
    reach = np.arange(-3 * int(np.ceil(sigma)), 3 * int(np.ceil(sigma)) + 1)
    weights = np.exp(-(reach**2) / (2 * sigma**2))
    weights /= weights.sum()

    def changed(pixels: npt.NDArray[np.float32], _: np.random.Generator) -> Answers:
        for axis in (1, 2):
            margin = [(0, 0)] * 4
            margin[axis] = (len(reach) // 2,) * 2
            padded = np.pad(pixels, margin, "edge")
            parts = [
                weight * np.take(padded, range(at, at + SIZE), axis)
                for at, weight in enumerate(weights.tolist())
            ]
            pixels = np.sum(parts, axis=0, dtype=np.float32)
        return pixels

    return changed


def noise(sigma: float) -> Change:
    """Of every pixel by itself, in grey levels."""
    return lambda pixels, random: pixels + random.normal(0, sigma, pixels.shape).astype(np.float32)


CHANGES: dict[str, Change] = {
    "blur 1 px of 32": blur(1),
    "blur 2 px": blur(2),
    "noise 8 of 255": noise(8),
    "noise 25": noise(25),
    "brightness +10 of 255": lambda pixels, _: pixels + 10,
    "brightness +40": lambda pixels, _: pixels + 40,
    "contrast x 0.8": lambda pixels, _: (pixels - 127.5) * 0.8 + 127.5,
}


class Network:
    """The shipped model on the CPU."""

    def __init__(self) -> None:
        self.folder = SHIPPED_STORE / "digits" / "1"
        self.manifest = resolve(SHIPPED_STORE, "digits/1")
        self._backend: Backend[Any] = TorchCpu.open(
            self.folder, self.manifest, Place(device="cpu", threads=1)
        )

    def answers(self, images: Sequence[Pixels]) -> Answers:
        """``(N, width)``."""
        most = self._backend.max_batch
        parts = [
            self._backend.result(self._backend.submit(images[at : at + most])).copy()
            for at in range(0, len(images), most)
        ]
        return np.concatenate(parts)


def redrawn(scans: npt.NDArray[np.int64], times: int, seed: int) -> npt.NDArray[np.float32]:
    """Every scan so many times, one scan's drawings together: ``(N · times, 32, 32, 3)``."""
    ink = torch.from_numpy(np.repeat(scans, times, axis=0)).float()[:, None] / FULL_INK
    generator = torch.Generator().manual_seed(seed)
    return draw(ink, SIZE, DrawingSpec(), generator).numpy().astype(np.float32)


class Sampler(NamedTuple):
    """Windows of live images.

    Attributes:
        network: answers.
        answers: of every drawing, ``(N, width)``.
        times: drawings of each scan.
        reference: what is compared with.
        random: chooses.
    """

    network: Network
    answers: Answers
    times: int
    reference: Reference
    random: np.random.Generator

    def independent(self) -> Answers:
        """Any drawings."""
        return self.answers[self.random.permutation(len(self.answers))]

    def of_three_classes(self) -> Answers:
        """Drawings whose predicted class is one of three."""
        chosen = self.random.choice(10, 3, replace=False)
        winners = self.network.manifest.answer.winners(self.answers)
        rows = np.flatnonzero(np.isin(winners, chosen))
        return self.answers[self.random.permutation(rows)]

    def repeated(self) -> Answers:
        """Every drawing ten times in a row."""
        return np.repeat(self.independent(), 10, axis=0)

    def in_bursts(self) -> Answers:
        """All drawings of a scan in a row."""
        order = self.random.permutation(len(self.answers) // self.times)
        rows = order[:, None] * self.times + np.arange(self.times)
        return self.answers[rows.ravel()]

    def scores(self, stream: Callable[[], Answers], count: int) -> list[float]:
        """The scores of so many windows, each against the reference anew."""
        layout = self.network.manifest.answer
        windows = Windows(self.reference.population, self.reference.facts.limit, WINDOW)
        found: list[float] = []
        while len(found) < count:
            values = stream()
            for at in range(0, len(values), 64):
                part = values[at : at + 64]
                gates, before = layout.gate_values(part), windows.counted // WINDOW
                windows.add(gates, as_logits(gates), layout.winners(part), 1.0)
                if windows.counted // WINDOW > before:
                    found.append(windows.score_of(windows.finished[-1]))
        return found[:count]


def alarms(scores: Sequence[float]) -> int:
    """How often two windows in a row are over the limit."""
    return sum(min(pair) > 1 for pair in pairwise(scores))


def false_alarms(sampler: Sampler, count: int) -> list[list[str]]:
    """Rows: windows of unchanged images."""
    streams = {
        "independent": sampler.independent,
        "three of ten classes": sampler.of_three_classes,
        "each image ten times in a row": sampler.repeated,
        f"{sampler.times} drawings of a scan in a row": sampler.in_bursts,
    }
    rows = []
    for name, stream in streams.items():
        scores = sampler.scores(stream, count)
        over = sum(score > 1 for score in scores)
        figures = (np.median(scores), max(scores))
        rows.append(
            [name, str(count), *(f"{f:.2f}" for f in figures), str(over), str(alarms(scores))]
        )
    return rows


def found(sampler: Sampler, pixels: npt.NDArray[np.float32], count: int) -> list[list[str]]:
    """Rows: windows of changed images, and of which one in five is changed."""
    usual, layout = sampler.answers, sampler.network.manifest.answer
    rows = []
    for name, change in CHANGES.items():
        changed = change(pixels, sampler.random).clip(0, 255).round().astype(np.uint8)
        answers = sampler.network.answers(list(changed))
        same = (layout.winners(answers) == layout.winners(usual)).mean()
        row = [name]
        for share in (1.0, 0.2):
            mixed = np.where(sampler.random.random((len(usual), 1)) < share, answers, usual)
            part = sampler._replace(answers=mixed)
            scores = part.scores(part.independent, count)
            row += [f"{np.mean([score > 1 for score in scores]):.0%}", f"{np.median(scores):.2f}"]
        rows.append([*row, f"{same:.1%}"])
    return rows


def familiarities(network: Network) -> list[list[str]]:
    """Rows: images of known kinds and of others, by the reference that ships."""
    reference = read_reference(network.folder, network.manifest)
    assert reference is not None
    assert reference.neighbours is not None
    layout, rows = network.manifest.answer, []
    for kind, images in (known_kinds() | other_kinds()).items():
        values = network.answers(images)
        winners = layout.winners(values)
        familiar = reference.neighbours.familiarity(as_logits(layout.gate_values(values)), winners)
        sure = layout.probabilities(values).max(axis=1) > 0.9
        shares = (
            (familiar < 0.01).mean(),
            (familiar < 0.05).mean(),
            sure.mean(),
            (sure & (familiar >= 0.05)).mean(),
        )
        rows.append([kind, str(len(images)), *(f"{share:.1%}" for share in shares)])
    return rows


def prices(network: Network, answers: Answers) -> list[list[str]]:
    """Rows: CPU microseconds an image, the best of many rounds."""
    reference = read_reference(network.folder, network.manifest)
    assert reference is not None
    assert reference.neighbours is not None
    layout, neighbours = network.manifest.answer, reference.neighbours
    watch = DriftWatch(layout, reference, Plan(WINDOW, 0))
    blocks = [answers[at : at + 64] for at in range(0, len(answers) - 64, 64)]
    rounds = iter(blocks * 20)
    one = answers[:1]

    def alone() -> None:
        neighbours.familiarity(as_logits(layout.gate_values(one)), layout.winners(one))

    return [
        [
            "an engine: windows and familiarity, an image",
            f"{best(lambda: watch.add(next(rounds), 1.0)) / 64:.1f}",
        ],
        ["a front: the familiarity of one answer, where asked", f"{best(alone):.1f}"],
    ]


def best(call: Callable[[], None], rounds: int = 200) -> float:
    """CPU microseconds of the quickest call."""
    taken = []
    for _ in range(rounds):
        began = time.process_time()
        call()
        taken.append(time.process_time() - began)
    return min(taken) * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=300, help="of unchanged images, each way")
    parser.add_argument("--times", type=int, default=4, help="drawings of each scan")
    parser.add_argument(
        "--name", default="drift", help="of the result's file; not written if empty"
    )
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    network, scans = Network(), scans_of_digits()
    halves = scans[0::2], scans[1::2]
    first = network.answers(list(redrawn(halves[0], chosen.times, 1).astype(np.uint8)))
    pixels = redrawn(halves[1], chosen.times, 2)
    second = network.answers(list(pixels.astype(np.uint8)))
    groups = np.arange(len(first)) // chosen.times
    reference = Reference.learn(network.manifest.answer, first, groups)
    sampler = Sampler(network, second, chosen.times, reference, np.random.default_rng(0))
    tables = {
        f"Windows of {WINDOW} unchanged images": (
            ["images", "windows", "median score", "highest", "over 1", "alarms"],
            false_alarms(sampler, chosen.windows),
        ),
        f"Windows of {WINDOW} changed images": (
            ["change", "found", "score", "one in five: found", "score", "same class"],
            found(sampler, pixels, 20),
        ),
        "Familiarity by the reference that ships": (
            ["images", "number", "below 0.01", "below 0.05", "p > 0.9", "p > 0.9, not below 0.05"],
            familiarities(network),
        ),
        "What it costs, CPU microseconds": (["what", "µs"], prices(network, second)),
    }
    for title, (header, rows) in tables.items():
        print(f"{title}\n\n{markdown(header, rows)}\n", flush=True)
    if chosen.name:
        print(f"saved {save(chosen.name, {'setting': vars(chosen), 'tables': tables})}")


if __name__ == "__main__":
    main()

"""What the report's findings find, on sets whose faults are known.

    python -m benchmarks.findings --output results/findings.json

Labels in doubt: the shipped model on its held-out scans, of which half the classes are thinned out
to a quarter and some labels are changed. Copies: drawn photographs (``examples/make_photos.py``)
with copies among them that were compressed, scaled or brightened. Calibration: the shipped model
with and without its temperature.
"""

import argparse
import io
import json
import runpy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageEnhance

from benchmarks.machine import describe
from gsop.images import InputSpec, Pixels, decode
from gsop.model.resnet import GSoPResNet
from gsop.store.manifest import Manifest
from gsop.store.store import load
from gsop.train.calibration import calibrate, error_of, softmax
from gsop.train.data.dataset import Sample
from gsop.train.evaluate import held_out_logits
from gsop.train.presets import DIGITS
from gsop.train.report.alike import Alike, alike_across, alike_within, thumbnails
from gsop.train.report.answers import Answers
from gsop.train.report.suspects import suspects

ROOT = Path(__file__).parent.parent
SHARES = (0.02, 0.05, 0.1)
"""Of the labels that are changed."""

KEPT = 4
"""Of the later half of the classes every so many scan is kept."""

SPEC = InputSpec(height=96, width=96, resize=96, mean=(0.5,) * 3, std=(0.5,) * 3)

Numbers = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]


def main() -> None:
    """Measure, print, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="sets for each share of labels")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    chosen = parser.parse_args()
    manifest, network = load(ROOT / "model_store" / "digits" / "1")
    logits, truth = answers_of(manifest, network, DIGITS.open_data().held_out())
    found = {
        "labels": labels(manifest, logits, truth, chosen.rounds),
        "copies": copies(),
        "calibration": calibration(manifest, logits, truth),
        "machine": describe(),
    }
    print(table(found))
    if chosen.output is not None:
        chosen.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def answers_of(
    manifest: Manifest, network: GSoPResNet, samples: Sequence[Sample]
) -> tuple[Numbers, Classes]:
    """Logits and classes of the samples."""
    return held_out_logits(network, manifest.input, samples, device=torch.device("cpu"))


def labels(
    manifest: Manifest, logits: Numbers, truth: Classes, rounds: int
) -> dict[str, dict[str, float]]:
    """What is named of labels that were changed, by the share of the labels that they are.

    ``found`` is the share of the changed ones that is named, ``false`` the share of what is named
    that was not changed.
    """
    classes = len(manifest.labels)
    probabilities = softmax(logits / manifest.temperature).astype(np.float32)
    found: dict[str, dict[str, float]] = {}
    for share in SHARES:
        named = hits = changed_ones = 0
        for seed in range(rounds):
            rng = np.random.default_rng(seed)
            kept = (truth < classes // 2) | (rng.random(len(truth)) < 1 / KEPT)
            given, right = truth[kept].copy(), probabilities[kept]
            changed = rng.choice(len(given), max(1, round(share * len(given))), replace=False)
            given[changed] = (given[changed] + rng.integers(1, classes, len(changed))) % classes
            answers = Answers(
                labels=manifest.labels,
                names=tuple(map(str, range(len(given)))),
                truth=given,
                probabilities=right,
                gates=np.zeros((len(given), 0), np.float32),
            )
            doubted = {one.number for one in suspects(answers)}
            named += len(doubted)
            hits += len(doubted & set(changed.tolist()))
            changed_ones += len(changed)
        found[f"{share:.0%}"] = {
            "found": hits / changed_ones,
            "false": (named - hits) / max(1, named),
            "changed": changed_ones,
        }
    return found


WAYS: dict[str, Callable[[Image.Image], tuple[Image.Image, int]]] = {
    "as it is": lambda image: (image, 95),
    "JPEG, quality 30": lambda image: (image, 30),
    "scaled to 0.6": lambda image: (image.resize((round(image.width * 0.6),) * 2), 90),
    "a tenth brighter": lambda image: (ImageEnhance.Brightness(image).enhance(1.1), 90),
}
"""How a copy is made: the image to save, and the quality."""


def copies(most: int = 20) -> dict[str, dict[str, float]]:
    """The share of copies that is found, by the way in which they were made.

    ``none`` tells the pairs that are named though nothing was copied, within and across the parts.
    """
    with tempfile.TemporaryDirectory() as folder:
        make = runpy.run_path(str(ROOT / "examples" / "make_photos.py"))["make_photos"]
        make(Path(folder))
        parts = [
            [Image.open(f).convert("RGB") for f in sorted(Path(folder, part).rglob("*.jpg"))]
            for part in ("train", "val")
        ]
    train, val = (thumbnails(pixels(part)) for part in parts)
    images = len(parts[1])
    found: dict[str, dict[str, float]] = {
        "none": {
            "within": float(len(alike_within(val))),
            "across": float(len(alike_across(val, train))),
            "pairs": float(images * (images - 1) // 2),
        }
    }
    for way, copy in WAYS.items():
        originals = parts[1][:: max(1, images // most)]
        little = thumbnails(pixels(originals, copy))
        hits = matches(alike_across(little, val), images, len(originals))
        found[way] = {"found": hits / len(originals), "copies": len(originals)}
    return found


def matches(pairs: Sequence[Alike], images: int, originals: int) -> int:
    """Copies of which the original is among what they look like."""
    step = images // originals
    return len({pair.first for pair in pairs if pair.second == pair.first * step})


def pixels(
    images: Sequence[Image.Image],
    copy: Callable[[Image.Image], tuple[Image.Image, int]] = WAYS["as it is"],
) -> Iterator[Pixels]:
    """The images, or copies of them, as the network sees them."""
    for image in images:
        made, quality = copy(image)
        file = io.BytesIO()
        made.save(file, "JPEG", quality=quality)
        yield decode(file.getvalue(), SPEC, max_pixels=10**7)


def calibration(manifest: Manifest, logits: Numbers, truth: Classes) -> dict[str, float]:
    """The calibration error without the temperature and with it, on images of no part in it."""
    found = calibrate(logits, truth)
    assert found is not None
    return {
        "temperature": manifest.temperature,
        "without": found.before,
        "with, of others": found.after,
        "with": error_of(softmax(logits / manifest.temperature), truth),
    }


def table(found: dict[str, Any]) -> str:
    """What was measured, to read."""
    lines = ["| labels changed | of them named | of the named unchanged |", "|---|---:|---:|"]
    lines += [
        f"| {share} | {row['found']:.1%} | {row['false']:.1%} |"
        for share, row in found["labels"].items()
    ]
    lines += ["", "| copies | found |", "|---|---:|"]
    lines += [
        f"| {way} | {row['found']:.1%} |" for way, row in found["copies"].items() if "found" in row
    ]
    none, sure = found["copies"]["none"], found["calibration"]
    lines += [
        "",
        f"of {none['pairs']:.0f} pairs that are no copies {none['within']:.0f} are named",
        f"calibration error {sure['without']:.2%}, with the temperature "
        f"{sure['with, of others']:.2%}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

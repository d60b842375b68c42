"""Make the example images: python examples/make_examples.py [FOLDER].

``digits/7.png`` and ``digits/7-b.png`` are the first two held-out scans of class 7, as they are:
8×8 grey, light ink on a dark ground. ``drawn/7.png`` is a seven written for this project with a
round pen, black on white. No model was asked which to take.
"""

import sys
from collections import defaultdict
from pathlib import Path

from gsop.train.data.digits import Digits
from gsop.train.data.drawing import DrawingSpec
from gsop.train.data.drawn import HANDS, draw_strokes

SUFFIXES = ("", "-b")
HAND = HANDS[0]


def make_examples(folder: Path) -> None:
    """Write all example images under ``folder``."""
    scans: dict[int, list[bytes]] = defaultdict(list)
    for sample in Digits(size=32, how=DrawingSpec()).held_out():
        scans[sample.label].append(sample.image)
    for kind in ("digits", "drawn"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for label, strokes in enumerate(HAND):
        for suffix, image in zip(SUFFIXES, scans[label], strict=False):
            (folder / "digits" / f"{label}{suffix}.png").write_bytes(image)
        draw_strokes(strokes, pen=0.08).save(folder / "drawn" / f"{label}.png")


if __name__ == "__main__":
    make_examples(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)

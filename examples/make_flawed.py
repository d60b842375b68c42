"""Make a set of photographs with known flaws: python examples/make_flawed.py FOLDER.

The photographs of ``make_photos.py``, but skewed (of one class a quarter of the images, of another
half), mislabelled (one image in twenty lies in another class's folder), and with copies: some
images of ``val/`` are there twice, and some are copies of images in ``train/``, compressed, scaled
or brightened. ``flaws.json`` tells each flaw, so that what is found can be held against it. No
network is used, and the same set is made every time.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from make_photos import make_photos
from PIL import Image, ImageEnhance

TRAIN, VAL = 100, 60
"""Images of each class, before the skew."""

SHARES = {"flower": 1.0, "handwriting": 0.25, "shapes": 1.0, "temple": 0.5}
"""Of them that are kept."""

MISLABELLED = 0.05
"""Share of the images of each part whose label is another."""

COPIES = 12
"""Copies within ``val/``, and as many of ``train/`` in it."""

FLAWS = "flaws.json"


def make_flawed(folder: Path, *, train: int = TRAIN, val: int = VAL) -> dict[str, Any]:
    """Write the set under ``folder``, and what is wrong with it; the latter is returned too.

    Args:
        folder: to write to.
        train: images of each class to train on, before the skew.
        val: the same of those that are held out.

    Returns:
        ``mislabelled``: by file, its right class; ``duplicates`` and ``leaks``: by file, what it is
        a copy of. Files are named from the folder that holds the classes.
    """
    make_photos(folder, train=train, val=val)
    rng = np.random.default_rng(0)
    flaws: dict[str, Any] = {"mislabelled": {}, "duplicates": {}, "leaks": {}}
    for part, count in (("train", train), ("val", val)):
        for label, share in SHARES.items():
            for image in sorted((folder / part / label).glob("*.jpg"))[round(share * count) :]:
                image.unlink()
    originals = {part: sorted((folder / part).rglob("*.jpg")) for part in ("train", "val")}
    for kind, part, ways in (("duplicates", "val", 4), ("leaks", "train", 4)):
        chosen = rng.choice(len(originals[part]), COPIES, replace=False)
        for number, place in enumerate(sorted(chosen.tolist())):
            original = originals[part][place]
            copy = folder / "val" / original.parent.name / f"{kind[:-1]}-{number:02}.jpg"
            _copy(original, copy, number % ways)
            flaws[kind][_name(copy)] = _name(original)
    copied = {*flaws["duplicates"].values(), *flaws["leaks"].values()}
    for part in ("train", "val"):
        left = [image for image in originals[part] if _name(image) not in copied]
        changed = round(MISLABELLED * len(originals[part]))
        for place in rng.choice(len(left), changed, replace=False).tolist():
            image = left[place]
            others = [label for label in SHARES if label != image.parent.name]
            moved = folder / part / others[rng.integers(len(others))] / f"moved-{image.name}"
            flaws["mislabelled"][f"{part}/{_name(image.rename(moved))}"] = image.parent.name
    (folder / FLAWS).write_text(json.dumps(flaws, indent=1) + "\n", encoding="utf-8")
    return flaws


def _name(image: Path) -> str:
    return f"{image.parent.name}/{image.name}"


def _copy(original: Path, copy: Path, way: int) -> None:
    """As it is, compressed, scaled to 0.6, or a tenth brighter."""
    image = Image.open(original).convert("RGB")
    if way == 2:
        image = image.resize((round(image.width * 0.6), round(image.height * 0.6)))
    elif way == 3:
        image = ImageEnhance.Brightness(image).enhance(1.1)
    image.save(copy, quality=30 if way == 1 else 90)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/make_flawed.py FOLDER")
    make_flawed(Path(sys.argv[1]))

"""Make a small folder of photographs to train on: python examples/make_photos.py FOLDER.

Four classes, each in ``train/`` and ``val/``: ``flower`` and ``temple`` are cut out of the two
photographs that come with scikit-learn, ``handwriting`` is written by the project's own pen,
``shapes`` are drawn. The images in ``val/`` show what no image in ``train/`` shows: the right
halves of flower and temple, the third of three hands, and shapes from other seeds. No network is
used, and the same images are made every time.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from sklearn.datasets import load_sample_image

from gsop.train.data.drawn import HANDS, draw_strokes

TRAIN, VAL = 60, 20
"""Images of each class."""

SIDE = 160
"""Height and width of every image, in pixels."""

MIDDLE = {"flower": 308, "temple": 210}
"""The column, in pixels, that parts what each photograph shows into a left and a right half."""


def make_photos(folder: Path, *, train: int = TRAIN, val: int = VAL) -> None:
    """Write all images under ``folder``: so many of each class in each part."""
    photographs = {
        "flower": Image.fromarray(load_sample_image("flower.jpg")),
        "temple": Image.fromarray(load_sample_image("china.jpg")),
    }
    makers: dict[str, Callable[[np.random.Generator, bool], Image.Image]] = {
        "flower": lambda rng, held_out: crop(photographs, "flower", rng, held_out),
        "temple": lambda rng, held_out: crop(photographs, "temple", rng, held_out),
        "handwriting": handwriting,
        "shapes": shapes,
    }
    for number, (label, make) in enumerate(makers.items()):
        for part, count in (("train", train), ("val", val)):
            place = folder / part / label
            place.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                rng = np.random.default_rng((number, part == "val", index))
                image = as_taken(make(rng, part == "val"), rng)
                image.save(place / f"{label}-{index:02}.jpg", quality=90)


def crop(
    photographs: dict[str, Image.Image], label: str, rng: np.random.Generator, held_out: bool
) -> Image.Image:
    """A square of the photograph that ends at its middle or, held out, begins there."""
    side = int(rng.integers(120, 201))
    away = int(rng.integers(0, 50))
    x = MIDDLE[label] + away if held_out else max(0, MIDDLE[label] - away - side)
    y = int(rng.integers(40, 400 - side))
    return photographs[label].crop((x, y, x + side, y + side))


def handwriting(rng: np.random.Generator, held_out: bool) -> Image.Image:
    """A digit in ink on paper."""
    hand = HANDS[2] if held_out else HANDS[rng.integers(2)]
    grey = draw_strokes(
        hand[rng.integers(10)],
        height=rng.uniform(0.5, 0.8),
        pen=rng.uniform(0.04, 0.1),
        slant=rng.uniform(-0.1, 0.3),
    )
    paper, ink = rng.integers(190, 256, 3), rng.integers(0, 90, 3)
    share = np.asarray(grey, np.float64)[..., None] / 255
    return Image.fromarray((share * paper + (1 - share) * ink).astype(np.uint8))


def shapes(rng: np.random.Generator, held_out: bool) -> Image.Image:
    """A few polygons and discs of one colour each."""
    image = Image.new(
        "RGB", (2 * SIDE, 2 * SIDE), tuple(int(value) for value in rng.integers(0, 256, 3))
    )
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(3, 7)):
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        radius = int(rng.integers(SIDE // 5, SIDE // 1.5))
        middle = tuple(int(value) for value in rng.integers(0, 2 * SIDE, 2))
        sides = int(rng.integers(3, 8))
        if sides == 7:
            pen.circle(middle, radius, colour)
        else:
            pen.regular_polygon((*middle, radius), sides, int(rng.integers(360)), colour)
    return image


def as_taken(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The image as a camera might have it: its size, light, focus and noise."""
    image = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1)))
    light = rng.uniform(0.6, 1.2) * rng.uniform(0.9, 1.1, 3)
    pixels = np.asarray(image, np.float64) * light + rng.normal(
        0, rng.uniform(1, 8), (SIDE, SIDE, 3)
    )
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/make_photos.py FOLDER")
    make_photos(Path(sys.argv[1]))

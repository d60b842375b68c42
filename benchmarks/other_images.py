"""Images that a model of digits knows, and images of other kinds, as its network's input."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits, load_sample_images

from gsop.images import Pixels, decode
from gsop.settings import SHIPPED_STORE
from gsop.store.catalog import resolve
from gsop.train.data.digits import HELD_OUT_EVERY, as_image
from gsop.train.data.variants import redrawn_scans

SIZE = 32
COUNT = 400


def scans_of_digits() -> npt.NDArray[np.int64]:
    """All scans, ``(1797, 8, 8)``."""
    scans: npt.NDArray[np.int64] = load_digits().images.astype(np.int64)
    return scans


def known_kinds() -> dict[str, list[Pixels]]:
    """By name: scans that are not in the reference that ships, and drawings of them.

    Training has seen them, so this is not how familiar a new scan is: that is what the reference
    is calibrated on.
    """
    scans, classes = scans_of_digits(), load_digits().target
    trained = np.ones(len(scans), bool)
    for label in range(10):
        trained[np.flatnonzero(classes == label)[::HELD_OUT_EVERY]] = False
    chosen = [as_image(scan) for scan in scans[trained][:COUNT]]
    spec = resolve(SHIPPED_STORE, "digits/1").input
    variants = redrawn_scans(chosen, [0] * len(chosen))
    return {
        f"digits, {name}": [decode(s.image, spec, max_pixels=10**6) for s in variants[name]]
        for name in ("scaled to 0.8", "canvas", "canvas, thin", "inverted")
    }


def other_kinds() -> dict[str, list[Pixels]]:
    """By name: what no digit is."""
    random = np.random.default_rng(0)
    photographs = {
        f"pieces of a photograph of {name}": _pieces(image, random)
        for name, image in zip(("a temple", "a flower"), load_sample_images().images, strict=True)
    }
    return photographs | {
        "capital letters": _letters("ABCDEFGHJKLMNPQRTUVWXYZ"),
        "noise": list(random.integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8)),
        "one colour": [
            np.full((SIZE, SIZE, 3), colour, np.uint8)
            for colour in random.integers(0, 256, (COUNT, 3))
        ],
    }


def _pieces(image: Pixels, random: np.random.Generator) -> list[Pixels]:
    found = []
    for side in random.integers(SIZE, 300, COUNT).tolist():
        top, left = (int(random.integers(0, length - side)) for length in image.shape[:2])
        piece = Image.fromarray(image[top : top + side, left : left + side])
        found.append(np.asarray(piece.resize((SIZE, SIZE), Image.Resampling.BOX)))
    return found


def _letters(letters: str) -> list[Pixels]:
    """Dark on light, in Pillow's own typeface, of several sizes and places."""
    found = []
    for letter in letters:
        for size in (18, 22, 26, 30):
            for shift in (-2, 0, 2):
                picture = Image.new("RGB", (SIZE, SIZE), "white")
                font = ImageFont.load_default(size=size)
                at = (SIZE / 2 + shift, SIZE / 2)
                ImageDraw.Draw(picture).text(at, letter, "black", font, "mm")
                found.append(np.asarray(picture))
    return found

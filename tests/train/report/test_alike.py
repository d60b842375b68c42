import io

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from gsop.train.report.alike import alike_across, alike_within, thumbnails

Image8 = npt.NDArray[np.uint8]


def scene(seed: int, side: int = 96) -> Image8:
    """A smooth picture; two of different seeds have nothing in common."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def compressed(image: Image8, quality: int) -> Image8:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def test_copies_are_found_and_nothing_else() -> None:
    originals = [scene(seed) for seed in range(40)]
    copies = [
        originals[0].copy(),
        compressed(originals[1], 30),
        np.asarray(cv2.resize(originals[2], (64, 64), interpolation=cv2.INTER_AREA), np.uint8),
        np.clip(originals[3].astype(int) + 12, 0, 255).astype(np.uint8),
    ]
    pairs = alike_within(thumbnails([*originals, *copies]))
    assert {(p.first, p.second) for p in pairs} == {(0, 40), (1, 41), (2, 42), (3, 43)}
    assert pairs[0].correlation >= pairs[-1].correlation >= 0.98


def test_across_two_sets_the_first_is_of_the_first() -> None:
    one, other = thumbnails([scene(1), scene(2)]), thumbnails([scene(3), scene(4), scene(2)])
    (pair,) = alike_across(one, other)
    assert (pair.first, pair.second) == (1, 2)


def test_what_shows_nothing_is_like_nothing() -> None:
    black = np.zeros((32, 32, 3), np.uint8)
    assert not alike_within(thumbnails([black, black, None, None]))
    assert not alike_within(thumbnails([]))


def test_another_colour_is_another_image() -> None:
    grey = np.repeat(scene(1)[..., :1], 3, axis=2) // 2
    red = grey.copy()
    red[..., 0] += 80
    assert not alike_within(thumbnails([grey, red]))

"""Images that look alike: the same picture, though its file was scaled, compressed or brightened.

An image is known by a thumbnail: 16×16 in grey, less its mean, at unit length. Two that look alike
have thumbnails whose product (the correlation of their pixels) is near 1, and colours that are
about the same. An image without contrast is like no other, for it shows nothing to compare.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from gsop.images import Pixels

SIDE: Final = 16
"""Pixels of a thumbnail, each way."""

ALIKE: Final = 0.98
"""The correlation from which two images look alike."""

COLOURS: Final = 24.0
"""The largest distance of their mean colours, of 255."""

LEAST_CONTRAST: Final = 4.0
"""Standard deviation of a thumbnail, of 255, below which it shows nothing."""

ROWS: Final = 2048
"""Thumbnails that are compared with all others at a time."""


class Thumbnails(NamedTuple):
    """What images look like, in little.

    Attributes:
        shapes: (N, SIDE²) float32 of unit length; of zeros where there is nothing to see.
        colours: their mean R, G, B, (N, 3) float32.
    """

    shapes: npt.NDArray[np.float32]
    colours: npt.NDArray[np.float32]


class Alike(NamedTuple):
    """Two images that look alike.

    Attributes:
        first, second: their numbers.
        correlation: of their pixels, up to 1.
    """

    first: int
    second: int
    correlation: float


def thumbnails(images: Iterable[Pixels | None]) -> Thumbnails:
    """Thumbnails of images (H, W, 3); of those that are ``None`` there is nothing to see."""
    shapes: list[npt.NDArray[np.float32]] = []
    colours: list[npt.NDArray[np.float32]] = []
    nothing = np.zeros(SIDE * SIDE, np.float32)
    for image in images:
        if image is None:
            shapes.append(nothing)
            colours.append(np.zeros(3, np.float32))
            continue
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        flat = np.asarray(small, np.float32).ravel()
        flat = flat - flat.mean()
        length = float(np.linalg.norm(flat))
        shapes.append(flat / length if length >= LEAST_CONTRAST * SIDE else nothing)
        colours.append(image.mean(axis=(0, 1), dtype=np.float32))
    if not shapes:
        return Thumbnails(np.zeros((0, SIDE * SIDE), np.float32), np.zeros((0, 3), np.float32))
    return Thumbnails(np.stack(shapes), np.stack(colours))


def alike_within(images: Thumbnails) -> list[Alike]:
    """Pairs that look alike, ``first < second``, the most alike first."""
    return [pair for pair in alike_across(images, images) if pair.first < pair.second]


def alike_across(one: Thumbnails, other: Thumbnails) -> list[Alike]:
    """Pairs that look alike, of one image of each, the most alike first."""
    found: list[Alike] = []
    for start in range(0, len(one.shapes), ROWS):
        products = one.shapes[start : start + ROWS] @ other.shapes.T
        for row, column in np.argwhere(products >= ALIKE).tolist():
            apart = np.abs(one.colours[start + row] - other.colours[column]).max()
            if apart <= COLOURS:
                found.append(Alike(start + row, column, float(products[row, column])))
    return sorted(found, key=lambda pair: -pair.correlation)

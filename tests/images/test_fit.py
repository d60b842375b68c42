"""Where each pixel of the network's input comes from: cropping, shrinking, enlarging."""

from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest

from gsop.images import Interpolation, decode
from tests.imagery import encode, input_spec
from tests.images.support import MAX_PIXELS


def ramp(height: int, width: int, *, across: bool) -> tuple[bytes, float]:
    """A PNG that grows evenly from edge to edge, and by how much a pixel."""
    y, x = np.mgrid[0:height, 0:width]
    length = max(2, width if across else height)
    slope = 250 / (length - 1)
    return encode((slope * (x if across else y)).round().astype(np.uint8), "PNG"), slope


def ideal(target: int, side: int, short: int, resize: int) -> npt.NDArray[np.float64]:
    """Where in the source the centres of the output pixels lie, in source pixels."""
    return (side - 1) / 2 + (np.arange(target) - (target - 1) / 2) * short / resize


class TestGeometry:
    @pytest.mark.parametrize("interpolation", get_args(Interpolation))
    @pytest.mark.parametrize(
        "wanted", [(224, 224, 256), (224, 112, 256), (32, 32, 32), (40, 100, 100), (7, 5, 9)]
    )
    @pytest.mark.parametrize(
        "size",
        [
            (375, 500),
            (500, 375),
            (257, 256),
            (255, 255),
            (700, 513),
            (1023, 90),
            (64, 64),
            (33, 50),
        ],
    )
    @pytest.mark.parametrize("across", [True, False])
    def test_every_pixel_comes_from_its_place(
        self,
        size: tuple[int, int],
        wanted: tuple[int, int, int],
        interpolation: Interpolation,
        across: bool,
    ) -> None:
        height, width, resize = wanted
        data, slope = ramp(*size, across=across)
        seen = decode(data, input_spec(*wanted, interpolation), max_pixels=MAX_PIXELS)[..., 0]
        line = seen[height // 2] if across else seen[:, width // 2]
        places = ideal(len(line), size[1] if across else size[0], min(size), resize)
        # The rectangle's sides and its place are whole pixels of the halved image, so the centre
        # and the edges may each be half of one off. Near the edge of an image that is enlarged
        # there is nothing to blend with.
        allowed = 1.5 + slope * max(1, min(size) // resize)
        edge = resize // min(size) if min(size) < resize else 0
        assert np.abs(line - slope * places)[edge : len(line) - edge].max() <= allowed

    def test_whole_multiples_are_plain_means(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        seen = decode(encode(pixels, "PNG"), input_spec(8, 8, 8), max_pixels=MAX_PIXELS)
        means = pixels.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3))
        assert np.abs(seen - means).max() <= 1.5  # each of the three halvings rounds

    def test_shrinking_averages_instead_of_skipping(self) -> None:
        stripes = np.tile(np.array([0, 255], np.uint8), (300, 150))
        seen = decode(encode(stripes, "PNG"), input_spec(160, 160, 160), max_pixels=MAX_PIXELS)
        assert seen[5:-5, 5:-5].min() > 60
        assert seen[5:-5, 5:-5].max() < 195
        assert abs(seen.mean() - 127.5) < 1

    @pytest.mark.parametrize("size", [(101, 101), (301, 201), (100, 161), (40, 30), (9, 9)])
    def test_the_centre_stays_the_centre(self, size: tuple[int, int]) -> None:
        y, x = np.mgrid[0 : size[0], 0 : size[1]]
        spread = min(size) / 6
        bell = np.exp(
            -((y - (size[0] - 1) / 2) ** 2 + (x - (size[1] - 1) / 2) ** 2) / (2 * spread**2)
        )
        data = encode((255 * bell).round().astype(np.uint8), "PNG")
        seen = decode(data, input_spec(64, 64, 72), max_pixels=MAX_PIXELS)[..., 0].astype(float)
        y, x = np.mgrid[0:64, 0:64] - 31.5
        off = np.hypot((seen * y).sum(), (seen * x).sum()) / seen.sum()
        assert off <= 0.75 * max(1, 72 / min(size))  # half a source pixel in each direction

    @pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (2, 3), (3, 40_000), (40_000, 3)])
    def test_extreme_shapes(self, size: tuple[int, int]) -> None:
        data = encode(np.full((*size, 3), (10, 120, 230), np.uint8), "PNG")
        seen = decode(data, input_spec(24, 16, 32), max_pixels=MAX_PIXELS)
        np.testing.assert_array_equal(seen, np.broadcast_to((10, 120, 230), (24, 16, 3)))

    def test_interpolations_differ(self) -> None:
        data = encode(np.eye(8, dtype=np.uint8) * 255, "PNG")
        bilinear, bicubic = (
            decode(data, input_spec(32, 32, 32, how), max_pixels=MAX_PIXELS)
            for how in get_args(Interpolation)
        )
        assert (bilinear != bicubic).any()

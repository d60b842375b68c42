"""Whatever way a camera was held, the scene is seen upright."""

from typing import Any

import numpy as np
import pytest

from gsop.images import decode
from gsop.images.orientation import turn, turn_back
from tests.imagery import chunk, encode, exif, input_spec, picture, png, stored
from tests.images.support import GREY, MAX_PIXELS, RGB, as_it_is, grey


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
    def test_is_followed(self, name: str, orientation: int) -> None:
        """In AVIF by the container, as in HEIC, of which tests/images/test_heif.py has the same."""
        scene = picture(61, 83)
        lossy: dict[str, dict[str, Any]] = {
            "JPEG": {"quality": 98},
            "AVIF": {"quality": 98, "subsampling": "4:4:4"},
        }
        options = lossy.get(name, {"lossless": True})
        data = encode(stored(scene, orientation), name, exif=exif(orientation), **options)
        seen = decode(data, input_spec(40, 50, 61), max_pixels=MAX_PIXELS).astype(int)
        expected = scene[10:50, 16:66]  # the centre, (61 - 40) // 2 and (83 - 50) // 2
        assert np.abs(seen - expected).max() <= (6 if name in lossy else 0)

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("size", [(300, 400), (95, 70), (20, 31)])
    def test_turning_late_gives_the_same_pixels(
        self, size: tuple[int, int], orientation: int
    ) -> None:
        scene, wanted = (
            np.random.default_rng(0).integers(0, 256, (*size, 3)),
            input_spec(48, 40, 64),
        )
        turned = encode(stored(scene.astype(np.uint8), orientation), "PNG", exif=exif(orientation))
        upright = encode(scene.astype(np.uint8), "PNG")
        first, second = (
            decode(data, wanted, max_pixels=MAX_PIXELS).astype(int) for data in (turned, upright)
        )
        assert np.abs(first - second).max() <= 1  # the rounding of OpenCV's fixed-point weights

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_turning_back_undoes_turning(self, orientation: int) -> None:
        scene = picture(3, 5)
        turned = turn(stored(scene, orientation), orientation)
        np.testing.assert_array_equal(turned, scene)
        np.testing.assert_array_equal(turn_back(turned, orientation), stored(scene, orientation))

    def test_a_grey_jpeg_is_turned(self) -> None:
        data = encode(stored(GREY, 6), "JPEG", exif=exif(6), quality=95)
        assert np.abs(as_it_is(data) - grey(GREY)).max() <= 3

    def test_exif_after_the_pixels_of_a_png(self) -> None:
        data = png(stored(RGB, 8), 2, after=chunk(b"eXIf", exif(8).removeprefix(b"Exif\0\0")))
        np.testing.assert_array_equal(as_it_is(data), RGB)

    @pytest.mark.parametrize(
        "block",
        [
            b"Exif\0\0",
            b"Exif\0\0nonsense",
            exif(6)[:12],
            b"Exif\0\0MM\0+\0\x08\0\0\0\0\0\0\0\0\0\x10",
            exif(0),
            exif(9),
        ],
    )
    def test_an_unreadable_orientation_is_none(self, block: bytes) -> None:
        data = encode(RGB, "JPEG", quality=95, exif=block)
        assert np.abs(as_it_is(data) - RGB).max() <= 6

    def test_a_text_named_exif_is_none(self) -> None:
        data = png(RGB, 2, before=chunk(b"iTXt", b"exif\0\0\0\0\0words"))
        np.testing.assert_array_equal(as_it_is(data), RGB)

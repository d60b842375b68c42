"""The whole way from a file to pixels: every format and mode, and nothing but our own errors."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from gsop.images import Pixels, decode, decode_into
from tests.imagery import (
    animation,
    big_endian_tiff,
    chunk,
    cmyk_jpeg,
    cmyk_tiff,
    encode,
    exif,
    input_spec,
    opencv,
    png,
    tiff,
    ycck_jpeg,
)
from tests.images.support import (
    GREY,
    MAX_PIXELS,
    RGB,
    SIDE,
    Numbers,
    as_it_is,
    assert_only_our_errors_escape,
    grey,
)

# In a server gsop.images silences Pillow's warnings; pytest resets the filters for each test.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

GREY16 = (GREY.astype(np.uint16) * 257 + np.arange(SIDE, dtype=np.uint16)).astype(np.uint16)
ALPHA = np.tile(np.linspace(0, 255, SIDE).astype(np.uint8), (SIDE, 1))


def over_white(pixels: Numbers, alpha: Numbers) -> Numbers:
    share = alpha[..., None] / 255
    return np.asarray(pixels * share + 255 * (1 - share))


def one_transparent(pixels: Numbers, colour: Numbers) -> Numbers:
    return np.where((pixels == colour).all(axis=-1, keepdims=True), 255, pixels)


PALETTE = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
INDICES = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)
PLTE = chunk(b"PLTE", PALETTE.tobytes())
RGBA = np.dstack([RGB, ALPHA])

EXACT: dict[str, tuple[bytes, Numbers]] = {
    **{f"{name} RGB": (encode(RGB, name), RGB) for name in ("PNG", "BMP", "TIFF")},
    **{f"{name} grey": (encode(GREY, name), grey(GREY)) for name in ("PNG", "BMP", "TIFF", "GIF")},
    **{
        f"{name} 1-bit": (encode(GREY > 128, name), grey(np.where(GREY > 128, 255, 0)))
        for name in ("PNG", "BMP", "TIFF")
    },
    **{
        f"TIFF {how}": (encode(RGB, "TIFF", compression=how), RGB)
        for how in ("tiff_lzw", "tiff_adobe_deflate", "packbits")
    },
    "TIFF in strips": (tiff(SIDE, SIDE, strips=4), np.zeros((SIDE, SIDE, 3))),
    "BigTIFF": (encode(RGB, "TIFF", big_tiff=True), RGB),
    "TIFF CMYK": (cmyk_tiff(RGB), RGB),
    "WebP lossless": (encode(RGB, "WEBP", lossless=True), RGB),
    "PNG of OpenCV": (opencv(RGB, ".png"), RGB),
    "PNG palette": (png(INDICES, 3, before=PLTE), PALETTE[INDICES]),
    "PNG palette, one transparent entry": (
        png(INDICES, 3, before=PLTE + chunk(b"tRNS", b"\xff\xff\0")),
        np.where(INDICES[..., None] == 2, 255, PALETTE[INDICES]),
    ),
    "PNG one transparent grey": (
        png(GREY, 0, before=chunk(b"tRNS", int(GREY[5, 5]).to_bytes(2))),
        one_transparent(grey(GREY), GREY[5, 5]),
    ),
    "PNG one transparent colour": (
        png(RGB, 2, before=chunk(b"tRNS", RGB[5, 5].astype(">u2").tobytes())),
        one_transparent(RGB, RGB[5, 5]),
    ),
    "PNG black under full transparency": (
        encode(np.zeros((SIDE, SIDE, 4), np.uint8), "PNG"),
        np.full((SIDE, SIDE, 3), 255),
    ),
    "first frame of a GIF": (animation([grey(GREY), grey(255 - GREY)], "GIF"), grey(GREY)),
    "first frame of a PNG": (animation([RGB, RGB[::-1]], "PNG"), RGB),
    "first frame of a WebP": (animation([RGB, RGB[::-1]], "WEBP", lossless=True), RGB),
}

CLOSE: dict[str, tuple[bytes, Numbers, int]] = {
    "JPEG": (encode(RGB, "JPEG", quality=95), RGB, 6),
    "JPEG progressive": (encode(RGB, "JPEG", quality=95, progressive=True), RGB, 6),
    "JPEG grey": (encode(GREY, "JPEG", quality=95), grey(GREY), 3),
    "JPEG of OpenCV": (opencv(RGB, ".jpg"), RGB, 6),
    "JPEG CMYK of Adobe": (cmyk_jpeg(RGB, adobe=True), RGB, 6),
    "JPEG CMYK": (cmyk_jpeg(RGB, adobe=False), RGB, 6),
    "JPEG YCCK": (ycck_jpeg(RGB), RGB, 6),
    "TIFF JPEG": (encode(RGB, "TIFF", compression="jpeg", quality=95), RGB, 6),
    "WebP": (encode(RGB, "WEBP", quality=95), RGB, 12),
    "PNG RGBA": (encode(RGBA, "PNG"), over_white(RGB, ALPHA), 1),
    "TIFF RGBA": (encode(RGBA, "TIFF"), over_white(RGB, ALPHA), 1),
    "WebP RGBA": (encode(RGBA, "WEBP", lossless=True, exact=True), over_white(RGB, ALPHA), 1),
    "PNG grey and alpha": (
        png(np.dstack([GREY, ALPHA]), 4),
        over_white(grey(GREY), ALPHA),
        1,
    ),
    "PNG palette, alpha of each entry": (
        png(INDICES, 3, before=PLTE + chunk(b"tRNS", bytes(range(255, -1, -1)))),
        over_white(PALETTE[INDICES], 255 - INDICES),
        1,
    ),
    "PNG grey of 16 bits": (png(GREY16, 0), grey(GREY16 / 257), 1),
    "TIFF grey of 16 bits": (opencv(GREY16, ".tiff"), grey(GREY16 / 257), 1),
    "TIFF grey of 16 bits, big-endian": (big_endian_tiff(GREY16), grey(GREY16 / 257), 1),
    "PNG grey of 16 bits, one transparent": (
        png(GREY16, 0, before=chunk(b"tRNS", int(GREY16[5, 5]).to_bytes(2))),
        np.where(grey(GREY16) == GREY16[5, 5], 255, grey(GREY16 / 257)),
        1,
    ),
    "PNG grey and alpha of 16 bits": (
        png(np.dstack([GREY16, ALPHA.astype(np.uint16) * 257]), 4),
        over_white(grey(GREY16 / 257), ALPHA),
        2,
    ),
    "PNG RGB of 16 bits": (opencv(RGB.astype(np.uint16) * 257, ".png"), RGB, 1),
    "TIFF RGB of 16 bits": (opencv(RGB.astype(np.uint16) * 257, ".tiff"), RGB, 1),
}

FILES = [data for data, _ in EXACT.values()] + [data for data, *_ in CLOSE.values()]
"""All of the files above."""


class TestFormats:
    @pytest.mark.parametrize("case", EXACT)
    def test_lossless(self, case: str) -> None:
        data, expected = EXACT[case]
        np.testing.assert_array_equal(as_it_is(data), expected)

    @pytest.mark.parametrize("case", CLOSE)
    def test_lossy_or_blended(self, case: str) -> None:
        data, expected, tolerance = CLOSE[case]
        assert np.abs(as_it_is(data) - expected).max() <= tolerance


class TestOut:
    def test_only_the_slot_is_written(self) -> None:
        slots = np.full((3, SIDE, SIDE, 3), 77, np.uint8)
        decode_into(
            EXACT["PNG RGB"][0], slots[1], input_spec(SIDE, SIDE, SIDE), max_pixels=MAX_PIXELS
        )
        np.testing.assert_array_equal(slots[1], RGB)
        assert (slots[[0, 2]] == 77).all()

    @pytest.mark.parametrize(
        "out",
        [
            np.empty((SIDE, SIDE + 1, 3), np.uint8),
            np.empty((SIDE, SIDE, 3), np.int8),
            np.empty((SIDE, SIDE, 4), np.uint8)[..., :3],
        ],
    )
    def test_another_array_is_refused(self, out: Pixels) -> None:
        with pytest.raises(ValueError, match="out is"):
            decode_into(
                EXACT["PNG RGB"][0], out, input_spec(SIDE, SIDE, SIDE), max_pixels=MAX_PIXELS
            )

    def test_threads_do_not_disturb_each_other(self) -> None:
        wanted = input_spec(24, 24, 28)
        alone = [decode(data, wanted, max_pixels=MAX_PIXELS) for data in FILES]
        with ThreadPoolExecutor(8) as pool:
            together = pool.map(lambda data: decode(data, wanted, max_pixels=MAX_PIXELS), FILES * 4)
            for seen, expected in zip(together, alone * 4, strict=True):
                np.testing.assert_array_equal(seen, expected)


class TestDamage:
    def test_only_our_errors_escape(self) -> None:
        seeds = [*FILES, encode(RGB, "JPEG", exif=exif(6)), encode(RGB, "TIFF", exif=exif(7))]
        assert_only_our_errors_escape(seeds, seed=0)

"""HEIC and AVIF: read like the others, turned as their container says, and refused by name."""

import sys

import numpy as np
import pytest

from gsop.errors import ImageTooLarge, InvalidImage
from gsop.images import decode, decode_whole, heif
from gsop.images.formats import FORMATS
from tests.imagery import encode, exif, heic, heic_grid, input_spec, picture, stored
from tests.images.support import (
    GREY,
    MAX_PIXELS,
    RGB,
    SPEC,
    as_it_is,
    assert_fit_for_a_client,
    assert_only_our_errors_escape,
    grey,
)

SCENE = picture(61, 83)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["AVIF", "HEIC"])
def test_the_container_says_how_it_is_turned(name: str, orientation: int) -> None:
    """The encoders move EXIF's orientation into the container, as phones do."""
    if name == "HEIC":
        data = heic(f"turned-{orientation}")
    else:
        held = stored(SCENE, orientation)
        data = encode(held, name, exif=exif(orientation), quality=98, subsampling="4:4:4")
    assert b"irot" in data or b"imir" in data or orientation == 1
    whole = decode_whole(data, max_pixels=MAX_PIXELS).astype(int)
    assert whole.shape == SCENE.shape
    assert np.abs(whole - SCENE).max() <= 12
    seen = decode(data, input_spec(40, 50, 61), max_pixels=MAX_PIXELS).astype(int)
    assert np.abs(seen - SCENE[10:50, 16:66]).max() <= 12


def test_a_grid_of_tiles_as_phones_write_it() -> None:
    tile = decode_whole(heic_grid(1, 1), max_pixels=MAX_PIXELS)
    assert tile.shape == (64, 64, 3)
    assert np.abs(tile[:32, :32].astype(int) - RGB).max() <= 12
    whole = decode_whole(heic_grid(3, 5), max_pixels=MAX_PIXELS)
    np.testing.assert_array_equal(whole, np.tile(tile, (3, 5, 1)))


def test_the_whole_is_judged_and_not_a_tile() -> None:
    with pytest.raises(ImageTooLarge, match="320x192, 61440 pixels"):
        decode(heic_grid(3, 5), SPEC, max_pixels=61_439)


def test_a_size_that_is_announced_too_small_is_refused() -> None:
    """The size that is judged is that of a box; the decoder's own may not be larger."""
    data = heic_grid(3, 5).replace(b"ispe\0\0\0\0\0\0\x01\x40", b"ispe\0\0\0\0\0\0\0\x01")
    with pytest.raises(InvalidImage, match="damaged"):
        decode(data, SPEC, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("data", [encode(GREY, "AVIF", quality=98), heic("grey")])
def test_grey(data: bytes) -> None:
    assert np.abs(as_it_is(data) - grey(GREY)).max() <= 10


def test_what_is_clear_lies_over_white() -> None:
    clear = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    clear[:, :16, 3] = 0
    for data in (encode(clear, "AVIF", quality=98), heic("clear")):
        seen = as_it_is(data)
        assert seen[:, :14].min() >= 250
        assert np.abs(seen[:, 18:] - RGB[:, 18:]).max() <= 16


@pytest.mark.parametrize(
    ("brands", "name"),
    [
        (b"heic\0\0\0\0mif1heic", "HEIC"),
        (b"mif1\0\0\0\0mif1heic", "HEIC"),
        (b"heix\0\0\0\0mif1heix", "HEIC"),
        (b"mif1\0\0\0\0mif1miafavif", "AVIF"),
        (b"avis\0\0\0\0msf1avif", "AVIF"),
        (b"mp42\0\0\0\0isommp42", None),
    ],
)
def test_the_brands_tell_the_format(brands: bytes, name: str | None) -> None:
    data = b"\0\0\0\x1cftyp" + brands + bytes(40)
    assert [form.name for form in FORMATS if form.magic.match(data)] == ([name] if name else [])


def test_without_the_extra_the_message_names_format_and_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    heif.load_libheif.cache_clear()
    try:
        with pytest.raises(InvalidImage, match=r"HEIC, as iPhones .*send it saved as JPEG") as told:
            decode(heic("square"), SPEC, max_pixels=MAX_PIXELS)
        assert_fit_for_a_client(told.value)
    finally:
        heif.load_libheif.cache_clear()


def test_only_our_errors_escape_from_what_is_damaged() -> None:
    seeds = [*(heic(name) for name in ("turned-6", "grey", "clear", "square")), heic_grid(2, 3)]
    assert_only_our_errors_escape([*seeds, encode(RGB, "AVIF", quality=90)], seed=1)

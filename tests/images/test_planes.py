"""JPEGs as bundles of planes, and which files come as pixels instead."""

import io

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from gsop.errors import ConfigError, ImageTooLarge, InvalidImage
from gsop.images import InputSpec, Pixels, decode
from gsop.images.planes import (
    HEADER_BYTES,
    PIXELS,
    PLANES,
    bundle_bytes,
    decode_bundle_into,
    input_shape,
    load_library,
)
from tests.imagery import bombs, exif, not_images

SPEC = InputSpec(height=64, width=64, resize=72, mean=(0.5,) * 3, std=(0.5,) * 3)
MAX_PIXELS = 10**7


def has_library() -> bool:
    try:
        load_library()
    except ConfigError:
        return False
    return True


needs_library = pytest.mark.skipif(not has_library(), reason="libturbojpeg is not installed")


def photo(height: int, width: int) -> Pixels:
    """Something smooth, with edges and all colours; alike in all sizes."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) * 100 / min(height, width)
    waves = [np.sin(x / a + y / b) for a, b in ((9, 31), (23, 11), (17, 19))]
    pixels = (np.stack(waves, axis=2) * 100 + 128).astype(np.uint8)
    cv2.circle(pixels, (width // 3, height // 2), height // 5, (250, 30, 60), -1)
    return np.ascontiguousarray(pixels)


def jpeg(pixels: Pixels, subsampling: str = "420") -> bytes:
    return bytes(simplejpeg.encode_jpeg(pixels, quality=92, colorsubsampling=subsampling))


def bundle(data: bytes, spec: InputSpec = SPEC) -> tuple[list[int], Pixels]:
    """Header and body."""
    out = np.full(bundle_bytes(spec), 77, np.uint8)
    decode_bundle_into(data, out, spec, max_pixels=MAX_PIXELS)
    return out[:28].view(np.int32).tolist(), out[HEADER_BYTES:]


@needs_library
@pytest.mark.parametrize(
    "size", [(80, 120), (99, 75), (143, 143), (150, 200), (301, 260), (600, 1000), (1151, 900)]
)
def test_luma_is_that_of_the_part_which_the_network_sees(size: tuple[int, int]) -> None:
    pixels = photo(*size)
    header, body = bundle(jpeg(pixels))
    kind, height, width, chroma_height, chroma_width, y, x = header
    assert kind == PLANES
    assert 64 <= height <= 2 * 64
    assert 64 <= width <= 2 * 64
    # Chroma reaches as far as luma, on both sides.
    assert 0 <= y <= 3
    assert 0 <= x <= 3
    assert 2 * chroma_height >= y + height
    assert 2 * chroma_width >= x + width
    luma = body[: height * width].reshape(height, width)
    grey = cv2.cvtColor(decode(jpeg(pixels), SPEC, max_pixels=MAX_PIXELS), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(luma, (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - grey).mean() < 2.5


def turned() -> bytes:
    file = io.BytesIO()
    Image.fromarray(photo(200, 300)).save(file, "JPEG", exif=exif(6))
    return file.getvalue()


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(photo(200, 300)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png(), id="no JPEG"),
        pytest.param(turned(), id="turned"),
        pytest.param(jpeg(photo(200, 300), "444"), id="chroma of another size"),
        pytest.param(jpeg(photo(50, 60)), id="to be enlarged"),
        pytest.param(
            bytes(simplejpeg.encode_jpeg(photo(90, 90)[..., :1].copy(), colorspace="GRAY")),
            id="grey",
        ),
        pytest.param(jpeg(photo(1200, 1200)), id="to be halved more often"),
    ],
)
@needs_library
def test_what_planes_do_not_suit_comes_as_the_pixels_that_it_always_was(data: bytes) -> None:
    header, body = bundle(data)
    assert header[0] == PIXELS
    found = body[: 64 * 64 * 3].reshape(64, 64, 3)
    np.testing.assert_array_equal(found, decode(data, SPEC, max_pixels=MAX_PIXELS))


@needs_library
def test_files_that_are_refused_are_refused_as_ever() -> None:
    for data in not_images().values():
        with pytest.raises(InvalidImage):
            bundle(data)
    for data in bombs().values():
        with pytest.raises(ImageTooLarge):
            bundle(data)


@needs_library
def test_a_damaged_jpeg_is_what_it_always_was() -> None:
    data = jpeg(photo(200, 300))
    for cut in (len(data) // 2, len(data) - 3):
        try:
            expected = decode(data[:cut], SPEC, max_pixels=MAX_PIXELS)
        except InvalidImage:
            with pytest.raises(InvalidImage):
                bundle(data[:cut])
        else:
            header, body = bundle(data[:cut])
            if header[0] == PIXELS:
                np.testing.assert_array_equal(body[: 64 * 64 * 3].reshape(64, 64, 3), expected)


@needs_library
def test_no_bundle_is_larger_than_its_place() -> None:
    for height in range(72, 160, 7):
        for width in range(72, 160, 5):
            header, body = bundle(jpeg(photo(height, width)))
            luma, chroma = header[1] * header[2], header[3] * header[4]
            assert luma + 2 * chroma <= len(body)


def test_without_the_library_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", missing)
    load_library.cache_clear()
    try:
        with pytest.raises(ConfigError, match="GSOP_PIXELS=planes needs libturbojpeg"):
            load_library()
    finally:
        load_library.cache_clear()


def test_an_input_has_its_shape() -> None:
    assert input_shape(SPEC, as_bundles=False) == (64, 64, 3)
    assert input_shape(SPEC, as_bundles=True) == (bundle_bytes(SPEC),)
    assert bundle_bytes(SPEC) % 16 == 0

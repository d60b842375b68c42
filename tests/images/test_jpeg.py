"""JPEG: halved while it is decoded, handed on to Pillow, refused."""

import numpy as np
import pytest

from gsop.errors import InvalidImage
from gsop.images import Pixels, centred, decode, decode_whole
from tests.imagery import disguised, encode, exif, input_spec, many_scans, picture, stored
from tests.images.support import MAX_PIXELS, RGB, SPEC, as_it_is, assert_fit_for_a_client


def textured(height: int, width: int) -> Pixels:
    """Soft shapes with fine noise over them, and nothing symmetrical."""
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    shapes = np.stack(
        [np.sin(rows / 37) + columns / width, np.cos(columns / 23), np.sin((rows + columns) / 51)],
        axis=-1,
    )
    noise = np.random.default_rng(0).normal(0, 6, (height, width, 1))
    return np.clip(128 + 60 * shapes + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(480, 640), (641, 479), (1000, 333), (255, 900)])
@pytest.mark.parametrize("resize", [32, 40, 64, 120, 200])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_halving_while_decoding_changes_little(
    size: tuple[int, int], resize: int, mode: str
) -> None:
    data = encode(textured(*size), "JPEG", mode, quality=92)
    spec = input_spec(resize, resize - 5, resize)
    halved = decode(data, spec, max_pixels=MAX_PIXELS).astype(int)
    whole = centred(decode_whole(data, max_pixels=MAX_PIXELS), spec).astype(int)
    difference = np.abs(halved - whole)
    # Half a reduced pixel's shift, which an odd size may cause, moves these shapes by a few levels.
    assert difference.mean() < 1.5
    assert difference.max() < 16


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_halved_image_is_turned(orientation: int) -> None:
    scene = textured(400, 560)
    data = encode(
        stored(scene, orientation), "JPEG", quality=92, subsampling=0, exif=exif(orientation)
    )
    spec = input_spec(40, 30, 40)
    halved = decode(data, spec, max_pixels=MAX_PIXELS).astype(int)
    assert np.abs(halved - centred(scene, spec)).mean() < 2


def test_a_jpeg_that_the_fast_decoder_refuses() -> None:
    data = encode(RGB, "JPEG", quality=95)
    junk = data[:20] + bytes(9) + data[20:]
    np.testing.assert_array_equal(as_it_is(junk), as_it_is(data))


@pytest.mark.parametrize(
    "data",
    [many_scans(picture(64, 64), 50), disguised(many_scans(picture(64, 64), 50))],
    ids=["scans", "disguised scans"],
)
def test_little_data_cannot_buy_much_work(data: bytes) -> None:
    with pytest.raises(InvalidImage) as caught:
        decode(data, SPEC, max_pixels=MAX_PIXELS)
    assert_fit_for_a_client(caught.value)

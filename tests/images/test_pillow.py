"""What Pillow reads for us: the odd kinds are refused, and it stays quiet about them."""

import struct
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsop.errors import InvalidImage
from gsop.images import decode
from tests.imagery import bmp_rle, chunk, encode, png, tiff
from tests.images.support import GREY, MAX_PIXELS, RGB, SPEC, as_it_is, assert_fit_for_a_client

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


@pytest.mark.parametrize("samples", [np.int32, np.float32])
def test_samples_of_32_bits_are_refused_with_a_remedy(samples: type[np.generic]) -> None:
    data = encode(GREY.astype(samples), "TIFF")
    with pytest.raises(InvalidImage, match="convert it to RGB or grey of 8 or 16 bits"):
        as_it_is(data)


@pytest.mark.parametrize(
    "data",
    [bmp_rle(60_000, 16), tiff(32, 32, strips=2, repeats=99)],
    ids=["run-length BMP", "strips of a TIFF"],
)
def test_little_data_cannot_buy_much_work(data: bytes) -> None:
    with pytest.raises(InvalidImage) as caught:
        decode(data, SPEC, max_pixels=MAX_PIXELS)
    assert_fit_for_a_client(caught.value)


@pytest.mark.parametrize("kind", [b"tEXt", b"gAMA", b"eXIf"])
@pytest.mark.parametrize("place", ["before", "after"])
def test_a_wrong_checksum_of_what_is_not_needed_is_passed_over(kind: bytes, place: str) -> None:
    sound = chunk(kind, b"Comment\0drawn")
    broken = sound[:-1] + bytes([sound[-1] ^ 1])
    data = png(RGB, 2, **{place: broken})
    np.testing.assert_array_equal(as_it_is(data), RGB)


def test_a_wrong_checksum_of_what_is_needed_is_not() -> None:
    data = bytearray(png(RGB, 2))
    data[data.index(b"IDAT") + 20] ^= 1
    with pytest.raises(InvalidImage, match="damaged"):
        as_it_is(bytes(data))


@pytest.mark.parametrize("transparent", [False, True])
def test_around_a_gif_that_covers_a_part_of_its_screen_is_white(transparent: bool) -> None:
    """As in browsers, which see through what no frame has painted."""
    file = BytesIO()
    frame = Image.new("P", (8, 8), 1)
    frame.putpalette([0, 255, 0, 200, 30, 40, *[0] * 762])
    frame.save(file, "GIF", **({"transparency": 0} if transparent else {}))
    data = bytearray(file.getvalue())
    data[6:10] = struct.pack("<HH", 32, 32)  # the screen
    at = data.index(b"\x2c\0\0\0\0\x08\0\x08\0") + 1
    data[at : at + 4] = struct.pack("<HH", 4, 12)  # the frame's place in it
    expected = np.full((32, 32, 3), 255)
    expected[12:20, 4:12] = (200, 30, 40)
    np.testing.assert_array_equal(as_it_is(bytes(data)), expected)


def test_a_fresh_process_is_lean_and_quiet(tmp_path: Path) -> None:
    """Needs no torch, loads seven of Pillow's forty plugins, prints nothing about odd files."""
    (tmp_path / "odd.png").write_bytes(png(RGB, 2, before=chunk(b"acTL", bytes(8))))
    code = """
import pathlib, sys
from gsop.images import InputSpec, decode
spec = InputSpec(height=32, width=32, resize=32, mean=(0, 0, 0), std=(1, 1, 1))
decode(pathlib.Path("odd.png").read_bytes(), spec, max_pixels=10_000)
assert "torch" not in sys.modules
assert "PIL.PdfImagePlugin" not in sys.modules
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root / "app")},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")

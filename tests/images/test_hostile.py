"""Hostile bytes: whatever arrives, only our own errors leave, and little data buys little work."""

import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gsop.errors import ImageTooLarge, InvalidImage
from gsop.images import decode
from tests.imagery import (
    bmp_rle,
    bombs,
    chunk,
    disguised,
    encode,
    exif,
    input_spec,
    many_scans,
    mutations,
    not_images,
    picture,
    png,
    tiff,
)
from tests.images.test_images import FILES, RGB

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

SPEC = input_spec(24, 16, 32)
MAX_PIXELS = 1_000_000

INTERNALS = re.compile(r"\b0x|PIL|[Pp]illow|cv2|simplejpeg|Error|/\w+/|<|\bobject at\b")
"""Addresses, libraries, exception classes, paths, reprs."""


def assert_fit_for_a_client(error: Exception) -> None:
    text = str(error)
    assert not INTERNALS.search(text)
    assert re.search(r"; (send|save|convert)|: send", text), f"no remedy in {text!r}"


class TestHostileBytes:
    @pytest.mark.parametrize("case", not_images())
    def test_what_is_no_image(self, case: str) -> None:
        with pytest.raises(InvalidImage) as caught:
            decode(not_images()[case], SPEC, max_pixels=MAX_PIXELS)
        assert_fit_for_a_client(caught.value)

    @pytest.mark.parametrize("side", [1001, 10_000, 40_000])
    @pytest.mark.parametrize("name", bombs())
    def test_a_large_header_is_refused_unseen(self, name: str, side: int) -> None:
        data = bombs(side)[name]
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        with pytest.raises(ImageTooLarge) as caught:
            decode(data, SPEC, max_pixels=MAX_PIXELS)
        assert time.process_time() - started < 0.5
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 32 * 1024  # KiB; of the larger two, the pixels would be 100 MB and 1.6 GB
        assert_fit_for_a_client(caught.value)

    def test_the_limit_itself_is_allowed(self) -> None:
        data = encode(picture(40, 50), "PNG")
        decode(data, input_spec(8, 8, 8), max_pixels=2000)
        with pytest.raises(ImageTooLarge, match="50x40, 2000 pixels; at most 1999"):
            decode(data, input_spec(8, 8, 8), max_pixels=1999)

    @pytest.mark.parametrize(
        "data",
        [
            many_scans(picture(64, 64), 50),
            disguised(many_scans(picture(64, 64), 50)),
            bmp_rle(900_000, 1),
            tiff(32, 32, strips=2, repeats=99),
        ],
        ids=["scans of a JPEG", "disguised scans", "run-length BMP", "strips of a TIFF"],
    )
    def test_little_data_cannot_buy_much_work(self, data: bytes) -> None:
        with pytest.raises(InvalidImage) as caught:
            decode(data, SPEC, max_pixels=MAX_PIXELS)
        assert_fit_for_a_client(caught.value)

    def test_only_our_errors_escape(self) -> None:
        seeds = [*FILES, encode(RGB, "JPEG", exif=exif(6)), encode(RGB, "TIFF", exif=exif(7))]
        outcomes = {"decoded": 0, "refused": 0}
        for data in mutations(seeds, 1500, seed=0):
            try:
                decode(data, SPEC, max_pixels=MAX_PIXELS)
            except (InvalidImage, ImageTooLarge) as error:
                assert_fit_for_a_client(error)
                outcomes["refused"] += 1
            else:
                outcomes["decoded"] += 1
        assert min(outcomes.values()) > 100, "the damage is too heavy or too light to tell anything"


def test_a_fresh_process_is_lean_and_quiet(tmp_path: Path) -> None:
    """Needs no torch, loads six of Pillow's forty plugins, prints nothing about odd files."""
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
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")

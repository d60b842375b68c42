"""The table of formats: of which one a file is, who decodes it, and what is judged before that."""

import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from gsop.errors import ImageTooLarge, InvalidImage
from gsop.images import FORMAT_NAMES, SUFFIXES, decode, formats
from gsop.images.base import Declined, Decoded, Decoder
from gsop.images.formats import FORMATS, Format, decode_stored
from tests.imagery import bombs, encode, input_spec, not_images, picture
from tests.images.support import MAX_PIXELS, SPEC, assert_fit_for_a_client

PIXELS = np.zeros((3, 5, 3), np.uint8)


class Scripted:
    """An opened image of 5 × 3 that answers as it is told, and tells what became of it."""

    width, height = 5, 3

    def __init__(self, answer: Decoded | Exception) -> None:
        self.answer = answer
        self.asked_for: list[int | None] = []

    def decode(self, short_side: int | None) -> Decoded:
        self.asked_for.append(short_side)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def opening(opened: Scripted) -> Decoder:
    return lambda _: opened


def declining(_: bytes) -> Scripted:
    raise Declined


def stored(
    monkeypatch: pytest.MonkeyPatch, decoders: Sequence[Decoder], *, max_pixels: int = 15
) -> Decoded:
    """What becomes of a file of a format with these decoders."""
    row = Format("Scripted", (".scripted",), re.compile(b"scripted"), tuple(decoders))
    monkeypatch.setattr(formats, "FORMATS", (row,))
    return decode_stored(b"scripted file", max_pixels=max_pixels, short_side=2)


class TestTable:
    @pytest.mark.parametrize(("name", "data"), bombs().items())
    def test_a_file_is_of_one_format(self, name: str, data: bytes) -> None:
        assert [form.name for form in FORMATS if form.magic.match(data)] == [name]

    def test_every_format_is_tried_with_a_bomb(self) -> None:
        assert bombs().keys() == set(FORMAT_NAMES)

    def test_what_is_no_image_is_told_every_format(self) -> None:
        with pytest.raises(InvalidImage) as caught:
            decode_stored(b"no image", max_pixels=1)
        assert str(caught.value) == (
            "The bytes are no JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIC; "
            "send an image in one of these formats."
        )

    def test_suffixes_are_small_letters_and_belong_to_one_format(self) -> None:
        assert all(re.fullmatch(r"\.[a-z0-9]+", suffix) for suffix in SUFFIXES)
        assert len(SUFFIXES) == sum(len(form.suffixes) for form in FORMATS)


class TestDecoders:
    def test_the_first_that_does_not_decline_decodes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        declines_late = Scripted(Declined())
        decodes, spare = Scripted(Decoded(PIXELS, 6)), Scripted(Decoded(PIXELS, 1))
        decoders = [declining, opening(declines_late), opening(decodes), opening(spare)]
        assert stored(monkeypatch, decoders).orientation == 6
        assert (declines_late.asked_for, decodes.asked_for, spare.asked_for) == ([2], [2], [])

    def test_the_file_is_at_fault_if_all_decline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(InvalidImage, match="The Scripted image is damaged, incomplete or"):
            stored(monkeypatch, [declining, opening(Scripted(Declined()))])

    def test_what_one_refuses_the_next_is_not_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        refuses, spare = Scripted(InvalidImage("much work; send less")), Scripted(Decoded(PIXELS))
        with pytest.raises(InvalidImage, match="much work"):
            stored(monkeypatch, [opening(refuses), opening(spare)])
        assert spare.asked_for == []

    def test_each_is_judged_by_the_size_it_reads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        small, large = Scripted(Declined()), Scripted(Decoded(PIXELS))
        large.width = 6
        with pytest.raises(ImageTooLarge, match="6x3, 18 pixels; at most 15"):
            stored(monkeypatch, [opening(small), opening(large)])
        assert (small.asked_for, large.asked_for) == ([2], [])


def peak() -> int:
    """The most memory that this process had since it was forgotten last, in KiB."""
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line)


def forgotten_peak() -> int:
    """Forget it: from now on it is what the process has now, in KiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


class TestLimits:
    @pytest.mark.parametrize("case", not_images())
    def test_what_is_no_image(self, case: str) -> None:
        with pytest.raises(InvalidImage) as caught:
            decode(not_images()[case], SPEC, max_pixels=MAX_PIXELS)
        assert_fit_for_a_client(caught.value)

    @pytest.mark.parametrize("side", [1001, 10_000, 40_000])
    @pytest.mark.parametrize("name", bombs())
    def test_a_large_header_is_refused_unseen(self, name: str, side: int) -> None:
        data = bombs(side)[name]
        tries = []
        for _ in range(3):  # threads that other tests have left may grow meanwhile, but not thrice
            before, started = forgotten_peak(), time.process_time()
            with pytest.raises(ImageTooLarge) as caught:
                decode(data, SPEC, max_pixels=MAX_PIXELS)
            tries.append((peak() - before, time.process_time() - started))
        grown, seconds = map(min, zip(*tries, strict=True))
        assert seconds < 0.5
        assert grown < 32 * 1024  # KiB; of the larger two, the pixels would be 100 MB and 1.6 GB
        assert_fit_for_a_client(caught.value)

    def test_the_limit_itself_is_allowed(self) -> None:
        data = encode(picture(40, 50), "PNG")
        decode(data, input_spec(8, 8, 8), max_pixels=2000)
        with pytest.raises(ImageTooLarge, match="50x40, 2000 pixels; at most 1999"):
            decode(data, input_spec(8, 8, 8), max_pixels=1999)

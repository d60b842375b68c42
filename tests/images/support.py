"""What the tests of images share: a small picture, and what is asked of a decoder."""

import re
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from gsop.errors import ImageTooLarge, InvalidImage
from gsop.images import decode
from tests.imagery import input_spec, mutations, picture

Numbers = npt.NDArray[Any]

SIDE = 32
RGB = picture(SIDE, SIDE)
GREY = RGB[..., 0]
MAX_PIXELS = 1_000_000
SPEC = input_spec(24, 16, 32)

INTERNALS = re.compile(r"\b0x|PIL|[Pp]illow|cv2|simplejpeg|Error|/\w+/|<|\bobject at\b")
"""Addresses, libraries, exception classes, paths, reprs."""


def as_it_is(data: bytes) -> npt.NDArray[np.int64]:
    """The pixels of a square image of ``SIDE``, neither cropped nor resized."""
    return decode(data, input_spec(SIDE, SIDE, SIDE), max_pixels=MAX_PIXELS).astype(np.int64)


def grey(pixels: Numbers) -> Numbers:
    return np.repeat(pixels[..., None], 3, axis=-1)


def assert_fit_for_a_client(error: Exception) -> None:
    text = str(error)
    assert not INTERNALS.search(text)
    assert re.search(r"; (send|save|convert)|: send", text), f"no remedy in {text!r}"


def assert_only_our_errors_escape(seeds: list[bytes], *, seed: int) -> None:
    """From 1500 damaged copies of the seeds; the damage is neither too heavy nor too light."""
    outcomes: Counter[str] = Counter()
    for data in mutations(seeds, 1500, seed):
        try:
            decode(data, SPEC, max_pixels=MAX_PIXELS)
        except (InvalidImage, ImageTooLarge) as error:
            assert_fit_for_a_client(error)
            outcomes["refused"] += 1
        else:
            outcomes["decoded"] += 1
    assert min(outcomes["decoded"], outcomes["refused"]) > 100

"""Digits as clients may send them: what the default model's robustness is measured on.

Made with Pillow from whole images, and sharing no code with the augmentation, so that a model is
not examined with the very brush that it was taught with.
"""

import io
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from gsop.train.data.dataset import Sample
from gsop.train.data.drawn import CANVAS, HANDS, draw_strokes, draw_type

Scan = NDArray[np.uint8]
"""Light ink on a dark ground, (8, 8)."""


def redrawn_scans(scans: Sequence[Scan], labels: Sequence[int]) -> dict[str, list[Sample]]:
    """By name: every scan, redrawn."""
    crisp = [_crisp(scan, 0.7) for scan in scans]
    rng = np.random.default_rng(0)
    variants: Mapping[str, list[Image.Image]] = {
        "inverted": [ImageChops.invert(Image.fromarray(scan)) for scan in scans],
        "scaled to 0.8": [_framed(_enlarged(scan, 0.8)) for scan in scans],
        "scaled to 0.6": [_framed(_enlarged(scan, 0.6)) for scan in scans],
        "shifted": [_framed(_enlarged(scan, 0.7), rng.uniform(-1, 1, 2)) for scan in scans],
        "noisy": [_noisy(scan, rng) for scan in scans],
        "canvas": crisp,
        "canvas, thick": [_inked(image, 200) for image in crisp],
        "canvas, thin": [_inked(image, 55) for image in crisp],
        "canvas, turned 10 degrees": [image.rotate(10, fillcolor=255) for image in crisp],
    }
    return {
        name: [Sample(_png(image), label) for image, label in zip(images, labels, strict=True)]
        for name, images in variants.items()
    }


def drawn_digits() -> dict[str, list[Sample]]:
    """By name: digits of strokes and of type, of several sizes, pens, slants and places."""
    strokes = [
        Sample(_png(draw_strokes(text, height=height, pen=pen, slant=slant, centre=centre)), label)
        for hand in HANDS
        for label, text in enumerate(hand)
        for height, pen, slant, centre in product(
            (0.5, 0.7, 0.85), (0.05, 0.09), (0.0, 0.2), ((0.5, 0.5), (0.42, 0.55))
        )
    ]
    typeset = [
        Sample(_png(draw_type(str(label), height=height, centre=centre)), label)
        for label in range(10)
        for height, centre in product((0.5, 0.7, 0.85), ((0.5, 0.5), (0.42, 0.55)))
    ]
    return {"pen strokes": strokes, "typeface": typeset}


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Grey pixels (H, W) as a PNG file."""
    return _png(Image.fromarray(pixels))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _enlarged(scan: Scan, height: float) -> Image.Image:
    side = round(CANVAS * height)
    return Image.fromarray(scan).resize((side, side), Image.Resampling.BICUBIC)


def _framed(
    digit: Image.Image, shift: Sequence[float] | NDArray[np.float64] = (0.0, 0.0)
) -> Image.Image:
    """The digit on a dark canvas; a shift of 1 moves it to the edge."""
    room = (CANVAS - digit.width) / 2
    frame = Image.new("L", (CANVAS, CANVAS), 0)
    frame.paste(digit, (round(room * (1 + shift[0])), round(room * (1 + shift[1]))))
    return frame


def _crisp(scan: Scan, height: float) -> Image.Image:
    """The digit's outline filled with black on a white canvas."""
    digit = _enlarged(scan, height)
    return ImageChops.invert(_framed(digit.point(lambda grey: 255 if grey > 127 else 0)))


def _inked(canvas: Image.Image, threshold: int) -> Image.Image:
    """Thicker strokes (``threshold`` above 127) or thinner ones, as crisp as before."""
    blurred = canvas.filter(ImageFilter.GaussianBlur(8))
    return blurred.point(lambda grey: 255 if grey > threshold else 0)


def _noisy(scan: Scan, rng: np.random.Generator) -> Image.Image:
    digit = np.asarray(_framed(_enlarged(scan, 0.8)).resize((64, 64), Image.Resampling.BOX))
    noisy = digit + rng.normal(0, 20, digit.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))

"""From a file to the network's input, or to all of its pixels."""

import numpy as np

from gsop.images.base import Pixels
from gsop.images.fit import fit_into, to_rgb
from gsop.images.formats import decode_stored
from gsop.images.orientation import turn
from gsop.images.spec import InputSpec


def decode(data: bytes, spec: InputSpec, *, max_pixels: int) -> Pixels:
    """The image in ``data`` as a new ``(spec.height, spec.width, 3)`` array, R, G, B.

    The same as :func:`decode_into`, for callers that have no array yet.
    """
    out = np.empty((spec.height, spec.width, 3), np.uint8)
    decode_into(data, out, spec, max_pixels=max_pixels)
    return out


def decode_into(data: bytes, out: Pixels, spec: InputSpec, *, max_pixels: int) -> None:
    """Decodes, crops and resizes an image. May run in many threads at once.

    Reads the formats of :data:`gsop.images.formats.FORMATS`, of animations the first frame. What is
    transparent lies over white, and the image is turned upright.

    Args:
        data: a whole image file.
        out: C-contiguous array of shape ``(spec.height, spec.width, 3)`` that receives R, G, B.
        spec: the size and the interpolation that the network was trained with.
        max_pixels: the largest width · height that is decoded.

    Raises:
        InvalidImage: if the bytes are no image of these formats, damaged, or of samples that have
            no 8-bit equivalent.
        ImageTooLarge: if the header announces more than ``max_pixels`` pixels.
        ValueError: if ``out`` has another shape, type or layout.
    """
    shape = (spec.height, spec.width, 3)
    if out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(f"out is {out.dtype} {out.shape}, not C-contiguous uint8 {shape}")
    fit_into(decode_stored(data, max_pixels=max_pixels, short_side=spec.resize), out, spec)


def decode_whole(data: bytes, *, max_pixels: int) -> Pixels:
    """All of the image in ``data``, upright, as a new (H, W, 3) array, R, G, B: for training.

    Raises:
        InvalidImage: as :func:`decode_into` does.
        ImageTooLarge: as :func:`decode_into` does.
    """
    decoded = decode_stored(data, max_pixels=max_pixels)
    return turn(to_rgb(decoded.pixels), decoded.orientation)

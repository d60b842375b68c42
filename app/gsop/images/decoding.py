"""From a file to the network's input, or to all of its pixels."""

import cv2
import numpy as np

from gsop.images.base import Pixels
from gsop.images.fit import fit_into
from gsop.images.formats import format_of
from gsop.images.jpeg import decode_jpeg
from gsop.images.orientation import turn
from gsop.images.pillow import decode_with_pillow
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

    Reads JPEG, PNG, WebP, BMP, TIFF and GIF, of animations the first frame. What is transparent
    lies over white, and the EXIF orientation is followed.

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
    name = format_of(data)
    if name == "JPEG":
        decoded = decode_jpeg(data, max_pixels, spec.resize)
    else:
        decoded = decode_with_pillow(data, name, max_pixels)
    fit_into(decoded, out, spec)


def decode_whole(data: bytes, *, max_pixels: int) -> Pixels:
    """All of the image in ``data``, upright, as a new (H, W, 3) array, R, G, B: for training.

    Raises:
        InvalidImage: as :func:`decode_into` does.
        ImageTooLarge: as :func:`decode_into` does.
    """
    name = format_of(data)
    if name == "JPEG":
        decoded = decode_jpeg(data, max_pixels)
    else:
        decoded = decode_with_pillow(data, name, max_pixels)
    pixels = decoded.pixels
    if pixels.ndim == 2:
        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)
    return turn(pixels, decoded.orientation)

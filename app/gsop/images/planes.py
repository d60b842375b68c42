"""JPEGs as their planes: decoding that stops before colour and size, which a device does sooner.

Half of a JPEG's decoding is done once its luma and chroma are there, of which chroma has a quarter
of the samples. What is left, colours and the network's size, costs a processor as much again, and a
GPU next to nothing. An image then comes as a *bundle*: of planes, where its file has them, and
else of pixels, as :func:`gsop.images.decode_into` makes them.

::

    header  7 int32: KIND; height, width of luma; height, width of chroma; y, x of the first luma
            sample in twice chroma's grid
    body    luma, Cb, Cr; or pixels (H, W, 3)

By libturbojpeg, where the system has it (Debian's libturbojpeg0).
"""

import ctypes
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

from gsop.errors import ConfigError
from gsop.images.base import Declined, Pixels
from gsop.images.decoding import decode_into
from gsop.images.fit import centre_box, halvings_to
from gsop.images.formats import is_jpeg
from gsop.images.jpeg import MAX_DCT_HALVINGS, by_simplejpeg
from gsop.images.spec import InputSpec

HEADER_BYTES = 32
PIXELS, PLANES = 0, 1
"""Kinds of a bundle."""

_STOP_ON_WARNING, _LIMIT_SCANS = 8192, 32768
_SUBSAMPLED_420, _YCBCR = 2, 1
"""Numbers of turbojpeg.h."""


class Geometry(NamedTuple):
    """The header of a bundle of planes, but for its kind."""

    height: int
    width: int
    chroma_height: int
    chroma_width: int
    y: int
    x: int


def bundle_bytes(spec: InputSpec) -> int:
    """Bytes of a bundle of an image for ``spec``; it shrinks by less than 2."""
    luma = (2 * spec.height + 2) * (2 * spec.width + 2)
    chroma = (spec.height + 4) * (spec.width + 4)
    body = max(luma + 2 * chroma, spec.height * spec.width * 3)
    return HEADER_BYTES + -(-body // 16) * 16


def input_shape(spec: InputSpec, *, as_bundles: bool) -> tuple[int, ...]:
    """Of what a decoder makes of an image, as uint8."""
    return (bundle_bytes(spec),) if as_bundles else (spec.height, spec.width, 3)


def decode_bundle_into(data: bytes, out: Pixels, spec: InputSpec, *, max_pixels: int) -> None:
    """Decode an image as a bundle ``(bundle_bytes,)``.

    Raises:
        InvalidImage: as :func:`gsop.images.decode_into` does.
        ImageTooLarge: as :func:`gsop.images.decode_into` does.
    """
    header, body = out[:HEADER_BYTES].view(np.int32), out[HEADER_BYTES:]
    if is_jpeg(data) and (geometry := _planes_into(data, body, spec, max_pixels)) is not None:
        header[:7] = PLANES, *geometry
        return
    decode_into(data, _as_pixels(out, spec), spec, max_pixels=max_pixels)


def put_pixels(pixels: Pixels, out: Pixels, spec: InputSpec) -> None:
    """Write what needs no decoding, for it is what decoding would make.

    Args:
        pixels: ``(3, H, W)`` uint8: R, G and B, of the size that ``spec`` has.
        out: of :func:`input_shape`.
        spec: what the network wants.

    Raises:
        ValueError: if ``pixels`` have another size.
    """
    if pixels.shape != (3, spec.height, spec.width):
        raise ValueError(f"pixels {pixels.shape} for an input of {spec.height} x {spec.width}")
    # numpy would take twenty times as long to put the channels side by side.
    cv2.merge(tuple(pixels), _as_pixels(out, spec) if out.ndim == 1 else out)


def _as_pixels(bundle: Pixels, spec: InputSpec) -> Pixels:
    """Where the pixels ``(H, W, 3)`` lie in a bundle that has no planes; says so in its header."""
    bundle[:HEADER_BYTES].view(np.int32)[:7] = PIXELS
    body = bundle[HEADER_BYTES:]
    return body[: spec.height * spec.width * 3].reshape(spec.height, spec.width, 3)


def _planes_into(data: bytes, out: Pixels, spec: InputSpec, max_pixels: int) -> Geometry | None:
    """The planes of the part that the network sees; ``None`` if another way suits the file."""
    try:
        opened = by_simplejpeg(data)
    except Declined:
        return None
    size = opened.height, opened.width
    halvings = halvings_to(min(size), spec.resize)
    if (
        opened.width * opened.height > max_pixels
        or not opened.is_upright
        or halvings > MAX_DCT_HALVINGS
    ):
        return None
    rows, columns = centre_box(size, halvings, spec, halvings)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    if height < spec.height or width < spec.width or (height, width) == (spec.height, spec.width):
        return None  # it is enlarged, or as it should be: the filter is another one
    planes = _decode(data, size, halvings)
    if planes is None:
        return None
    chroma = [_around(part, length) for part, length in zip((rows, columns), planes[1].shape,
                                                           strict=True)]  # fmt: skip
    cut = [planes[0][rows, columns], *(plane[chroma[0], chroma[1]] for plane in planes[1:])]
    at = 0
    for plane in cut:
        out[at : at + plane.size].reshape(plane.shape)[...] = plane
        at += plane.size
    first = (rows.start - 2 * chroma[0].start, columns.start - 2 * chroma[1].start)
    return Geometry(height, width, len(cut[1]), len(cut[1].T), *first)


def _around(luma: slice, length: int) -> slice:
    """The samples of chroma that a part of luma is coloured by: its own, and one on each side."""
    return slice(max(0, luma.start // 2 - 1), min(length, (luma.stop + 1) // 2 + 1))


def _decode(data: bytes, size: tuple[int, int], halvings: int) -> list[Pixels] | None:
    """Luma, Cb and Cr of a whole JPEG, halved; ``None`` if it is of another kind, or damaged."""
    library = load_library()
    height, width = (-(-side >> halvings) for side in size)
    found = [ctypes.c_int() for _ in range(4)]
    handle = library.tjInitDecompress()
    try:
        told = library.tjDecompressHeader3(handle, data, len(data), *map(ctypes.byref, found))
        kind = (found[2].value, found[3].value)
        if told != 0 or kind != (_SUBSAMPLED_420, _YCBCR):
            return None
        # Of even sides, to which libturbojpeg fills luma up.
        planes = [np.empty((height + height % 2, width + width % 2), np.uint8)]
        planes += [np.empty((-(-height // 2), -(-width // 2)), np.uint8) for _ in range(2)]
        pointers = (ctypes.c_void_p * 3)(*(plane.ctypes.data for plane in planes))
        strides = (ctypes.c_int * 3)(*(plane.shape[1] for plane in planes))
        flags = _STOP_ON_WARNING | _LIMIT_SCANS
        done = library.tjDecompressToYUVPlanes(
            handle, data, len(data), pointers, width, strides, height, flags
        )
        return planes if done == 0 else None
    finally:
        library.tjDestroy(handle)


@cache
def load_library() -> ctypes.CDLL:
    """The library libturbojpeg.

    Raises:
        ConfigError: if the system has none.
    """
    try:
        library = ctypes.CDLL("libturbojpeg.so.0")
    except OSError as error:
        raise ConfigError(
            "GSOP_PIXELS=planes needs libturbojpeg (apt-get install libturbojpeg0), or leave it at "
            "decoded"
        ) from error
    pointer, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_ulong
    library.tjInitDecompress.restype = pointer
    library.tjDestroy.argtypes = [pointer]
    library.tjDecompressHeader3.argtypes = [pointer, ctypes.c_char_p, size, *[pointer] * 4]
    library.tjDecompressToYUVPlanes.argtypes = [
        *(pointer, ctypes.c_char_p, size),
        *(pointer, number, pointer, number, number),
    ]
    return library

"""JPEG, by libjpeg-turbo; what it refuses, by Pillow."""

from collections.abc import Iterator

import simplejpeg

from gsop.errors import InvalidImage
from gsop.images.base import Decoded, check_size
from gsop.images.fit import halvings_to
from gsop.images.orientation import orientation_of
from gsop.images.pillow import decode_with_pillow

_SOF0, _SOF1, _RST0, _EOI, _SOS, _APP1 = 0xC0, 0xC1, 0xD0, 0xD9, 0xDA, 0xE1

_MAX_SCANS = 50
"""Scans of a progressive JPEG. Each costs a pass over all pixels, however few bytes it has: without
a limit, 10 MB keep a core busy for hours. libjpeg writes 10 for colour images and 18 for CMYK."""

_MAX_DCT_HALVINGS = 3
"""A block of 8×8 coefficients can become 4×4, 2×2 or a single pixel."""


def decode_jpeg(data: bytes, max_pixels: int, short_side: int | None = None) -> Decoded:
    """Pixels as they are stored, and their orientation. libjpeg-turbo runs without the GIL.

    With ``short_side``, an image of which the short side is at least twice that long comes halved,
    as often as possible: the decoder leaves fine detail out that would be averaged away.
    """
    exif, scans = _survey(data)
    if scans > _MAX_SCANS:
        raise InvalidImage(
            f"The JPEG image has more than {_MAX_SCANS} scans; save it anew as a baseline JPEG."
        )
    try:
        height, width, colour, _ = simplejpeg.decode_jpeg_header(data)
        check_size(width, height, max_pixels)
        if colour in ("CMYK", "YCCK"):
            return decode_with_pillow(data, "JPEG", max_pixels)
        halvings = halvings_to(min(height, width), short_side) if short_side else 0
        halvings = min(halvings, _MAX_DCT_HALVINGS)
        pixels = simplejpeg.decode_jpeg(
            data,
            "GRAY" if colour == "Gray" else "RGB",
            # The decoder takes the smallest of its scales that reaches these; 0: the whole image.
            min_height=-(-height >> halvings) if halvings else 0,
            min_width=-(-width >> halvings) if halvings else 0,
        )
    except ValueError:
        # Raised even for faults that libjpeg only warns of; Pillow reads some of those files.
        return decode_with_pillow(data, "JPEG", max_pixels)
    return Decoded(
        pixels[..., 0] if colour == "Gray" else pixels,
        orientation_of(exif),
        (height, width),
        halvings,
    )


def _survey(data: bytes) -> tuple[bytes, int]:
    """The EXIF segment of a JPEG, empty if there is none, and an upper bound on its scans."""
    exif = components = components_in_scan = b""
    for marker, payload in _segments(data):
        if marker == _APP1 and payload.startswith(b"Exif\0\0"):
            exif = exif or payload
        elif marker in (_SOF0, _SOF1):
            components = payload[5:6]
        elif marker == _SOS:
            components_in_scan = payload[:1]
    if components and components == components_in_scan:
        return exif, 1  # sequential, and the first scan holds everything: libjpeg reads no further
    return exif, data.count(bytes((0xFF, _SOS)))


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and payload of the segments up to the first scan's header (ITU-T T.81, B.1.1.4).

    Stops at whatever is no plain segment (fill bytes, restart markers), lest hostile bytes make
    this reader see another file than libjpeg does.
    """
    at, marker = 2, 0
    while marker != _SOS and at + 4 <= len(data) and data[at] == 0xFF:
        marker, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker < _SOF0 or _RST0 <= marker <= _EOI or marker == 0xFF:
            return
        yield marker, data[at + 4 : end]
        at = end

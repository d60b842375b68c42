"""JPEG, by libjpeg-turbo."""

from collections.abc import Iterator
from typing import NamedTuple

import simplejpeg

from gsop.errors import InvalidImage
from gsop.images.base import Declined, Decoded
from gsop.images.fit import halvings_to
from gsop.images.orientation import orientation_of

_SOF0, _SOF1, _RST0, _EOI, _SOS, _APP1 = 0xC0, 0xC1, 0xD0, 0xD9, 0xDA, 0xE1

_MAX_SCANS = 50
"""Scans of a progressive JPEG. Each costs a pass over all pixels, however few bytes it has: without
a limit, 10 MB keep a core busy for hours. libjpeg writes 10 for colour images and 18 for CMYK."""

MAX_DCT_HALVINGS = 3
"""A block of 8×8 coefficients can become 4×4, 2×2 or a single pixel."""


def by_simplejpeg(data: bytes) -> "OpenedJpeg":
    """Reads the header with libjpeg-turbo. Too many scans are refused, for later decoders too."""
    exif, scans = _survey(data)
    if scans > _MAX_SCANS:
        raise InvalidImage(
            f"The JPEG image has more than {_MAX_SCANS} scans; save it anew as a baseline JPEG."
        )
    try:
        height, width, colour, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise Declined from error
    return OpenedJpeg(data, width, height, colour, exif)


class OpenedJpeg(NamedTuple):
    """A :class:`gsop.images.base.Opened`."""

    data: bytes
    width: int
    height: int
    colour: str
    exif: bytes

    @property
    def is_upright(self) -> bool:
        """Whether it is stored as it is to be seen."""
        return orientation_of(self.exif) == 1

    def decode(self, short_side: int | None) -> Decoded:
        """See :meth:`gsop.images.base.Opened.decode`. libjpeg-turbo runs without the GIL."""
        if self.colour in ("CMYK", "YCCK"):
            raise Declined  # it does not turn inks into R, G, B
        halvings = halvings_to(min(self.height, self.width), short_side) if short_side else 0
        halvings = min(halvings, MAX_DCT_HALVINGS)
        try:
            pixels = simplejpeg.decode_jpeg(
                self.data,
                "GRAY" if self.colour == "Gray" else "RGB",
                # The decoder takes the smallest of its scales that reaches these; 0: all of it.
                min_height=-(-self.height >> halvings) if halvings else 0,
                min_width=-(-self.width >> halvings) if halvings else 0,
            )
        except ValueError as error:
            # Raised even for faults that libjpeg only warns of; Pillow reads some of those files.
            raise Declined from error
        return Decoded(
            pixels[..., 0] if self.colour == "Gray" else pixels,
            orientation_of(self.exif),
            (self.height, self.width),
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

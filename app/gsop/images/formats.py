"""The formats: what their files begin with, what their names end in, and who decodes them.

To add one takes a module with its decoder (:mod:`gsop.images.base` says what that is) and a row in
:data:`FORMATS`. A faster decoder of a format that is there goes to the front of its row.
"""

import re
from typing import NamedTuple

from gsop.errors import ImageTooLarge, InvalidImage
from gsop.images.base import Declined, Decoded, Decoder, unreadable
from gsop.images.heif import AVIF_MAGIC, HEIC_MAGIC, by_libavif, by_libheif
from gsop.images.jpeg import by_simplejpeg
from gsop.images.others import unread
from gsop.images.pillow import by_pillow
from gsop.images.png import by_pillow_mended


class Format(NamedTuple):
    """A kind of image file.

    Attributes:
        name: in messages.
        suffixes: of its files' names, in small letters.
        magic: a regular expression of what its files begin with, in which a dot is any byte.
        decoders: each is asked until one does not decline.
        part: of the pixels that an image may have, how many one of this format may have.
    """

    name: str
    suffixes: tuple[str, ...]
    magic: re.Pattern[bytes]
    decoders: tuple[Decoder, ...]
    part: float = 1.0


def _magic(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern, re.DOTALL)


FORMATS = (
    Format(
        "JPEG",
        (".jpg", ".jpeg", ".jpe", ".jfif"),
        _magic(rb"\xff\xd8\xff"),
        (by_simplejpeg, by_pillow("JPEG")),
    ),
    Format("PNG", (".png",), _magic(rb"\x89PNG\r\n\x1a\n"), (by_pillow("PNG"), by_pillow_mended)),
    Format("WebP", (".webp",), _magic(rb"RIFF....WEBP"), (by_pillow("WebP"),), 0.5),
    Format("BMP", (".bmp",), _magic(rb"BM"), (by_pillow("BMP"),)),
    Format("TIFF", (".tif", ".tiff"), _magic(rb"II[*+]\0|MM\0[*+]"), (by_pillow("TIFF"),)),
    Format("GIF", (".gif",), _magic(rb"GIF8[79]a"), (by_pillow("GIF"),)),
    Format("AVIF", (".avif",), _magic(AVIF_MAGIC), (by_libavif,)),
    Format("HEIC", (".heic", ".heif"), _magic(HEIC_MAGIC), (by_libheif,)),
)
"""In the order in which messages name them; no two begin alike. A WebP takes twice the memory of
others while it is decoded, and a file of 40 bytes can announce as much as one can."""

MAX_SIDE = 65_535
"""What a JPEG can have at most. Each row costs more than its pixels where there are only few."""

FORMAT_NAMES = tuple(form.name for form in FORMATS)

SUFFIXES = frozenset(suffix for form in FORMATS for suffix in form.suffixes)
"""What the names of image files end in, in small letters."""


def decode_stored(data: bytes, *, max_pixels: int, short_side: int | None = None) -> Decoded:
    """The pixels of a file as they are stored, by the first of its format's decoders that can.

    Args:
        data: a whole image file.
        max_pixels: the largest width · height that is decoded.
        short_side: as for :meth:`gsop.images.base.Opened.decode`.

    Raises:
        InvalidImage: if no decoder reads it.
        ImageTooLarge: if the header announces more than ``max_pixels`` pixels.
    """
    form = _format_of(data)
    reason: Declined | None = None
    for decoder in form.decoders:
        try:
            opened = decoder(data)
            _check_size(opened.width, opened.height, int(max_pixels * form.part))
            return opened.decode(short_side)
        except Declined as declined:
            reason = declined
    raise unreadable(form.name) from reason


def is_image(data: bytes) -> bool:
    """Whether a file begins like one of a format that is known."""
    return any(form.magic.match(data) for form in FORMATS)


def is_jpeg(data: bytes) -> bool:
    """Whether a file begins like one."""
    return FORMATS[0].magic.match(data) is not None


def _format_of(data: bytes) -> Format:
    if not data:
        raise InvalidImage("There are no bytes; send a whole image file.")
    for form in FORMATS:
        if form.magic.match(data):
            return form
    *names, last = FORMAT_NAMES
    if reason := unread(data):
        raise InvalidImage(reason)
    raise InvalidImage(
        f"The bytes are no {', '.join(names)} or {last}; send an image in one of these formats."
    )


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if max(width, height) > MAX_SIDE:
        raise ImageTooLarge(
            f"The image is {width}x{height}; at most {MAX_SIDE} pixels a side "
            "are decoded: send it scaled down."
        )
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"The image is {width}x{height}, {width * height} pixels; "
            f"at most {max_pixels} are decoded: send it scaled down."
        )

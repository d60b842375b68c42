"""The ISO container of HEIC and AVIF (ISO/IEC 23008-12): photographs as phones save them.

Pillow decodes AVIF. HEIC is libheif's, by the package pi-heif (the extra ``heif``): its wheel holds
decoders alone. How an image is turned lies in the container; EXIF's word on it does not count.
"""

import re
from functools import cache
from io import BytesIO
from types import ModuleType
from typing import Any, NamedTuple

from PIL import AvifImagePlugin

from gsop.errors import ImageTooLarge, InvalidImage
from gsop.images.base import Declined, Decoded, Opened
from gsop.images.pillow import by_pillow, errors_translated, to_array

_AVIF = rb"....ftyp(?:avi[fs]|m[is]f1.{4}(?:.{4}){0,15}?avi[fs])"

AVIF_MAGIC = _AVIF
"""What AVIF files begin with: a box of the brands that they are of."""

HEIC_MAGIC = rb"(?!%b)....ftyp(?:hei[cxms]|hev[cxms]|m[is]f1)" % _AVIF
"""What HEIC files begin with."""

_SIZE = re.compile(rb"\0\0\0\x14ispe\0\0\0\0(.{4})(.{4})", re.DOTALL)
"""The box that tells an image's size."""

_MOST_PIXELS = 2**28
"""What libavif, too, would not open: its refusal does not tell why."""

_BLOCK = 64
"""HEVC codes blocks of up to so many pixels a side, and what is beyond the image is cut off."""

_ERRORS = (RuntimeError, ValueError, SyntaxError, EOFError, OSError, IndexError)
"""What pi-heif documents, and raises on hostile bytes."""

# Images are decoded side by side in many processes; threads inside would only compete.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

_by_pillow = by_pillow("AVIF")


def by_libavif(data: bytes) -> Opened:
    """The decoder of AVIF."""
    width, height = _announced(data) or (0, 0)
    if width * height > _MOST_PIXELS:
        raise ImageTooLarge(
            "The image's header announces more pixels than are decoded: send it scaled down."
        )
    return _by_pillow(data)


def by_libheif(data: bytes) -> Opened:
    """The decoder of HEIC."""
    library = load_libheif()
    if library is None:
        raise InvalidImage(
            "This service does not read HEIC, as iPhones save photographs; send it saved as JPEG, "
            "or have its operator install the extra heif."
        )
    try:
        file = library.open_heif(BytesIO(data))
        width, height = file.size
    except _ERRORS as error:
        # It opens none whose parts do not make up its size; too large a size is the better reason.
        return _Unopened(*(_announced(data) or (0, 0)), error)
    coded = _announced(data)
    if coded and coded[0] * coded[1] > (width + _BLOCK) * (height + _BLOCK):
        width, height = coded  # a part of it is cut out when all is decoded
    return _OpenedByLibheif(file, width, height)


class _OpenedByLibheif(NamedTuple):
    file: Any
    width: int
    height: int

    def decode(self, short_side: int | None) -> Decoded:
        """See :meth:`gsop.images.base.Opened.decode`. All pixels come, and upright."""
        try:
            picture = self.file.to_pillow()
        except _ERRORS as error:
            raise Declined from error
        with errors_translated:
            return Decoded(to_array(picture, "HEIC"))


class _Unopened(NamedTuple):
    width: int
    height: int
    reason: Exception

    def decode(self, short_side: int | None) -> Decoded:
        """See :meth:`gsop.images.base.Opened.decode`."""
        raise Declined from self.reason


@cache
def load_libheif() -> ModuleType | None:
    """The package pi-heif, which decodes HEIC; ``None`` if it is not installed."""
    try:
        import pi_heif
        import pi_heif.options as options
    except ImportError:
        return None
    options.DECODE_THREADS = 1
    # What is beside the picture is not wanted, and would be read.
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    return pi_heif  # type: ignore[no-any-return]  # it has no types


def _announced(data: bytes) -> tuple[int, int] | None:
    """Width and height of the largest image in the file, which the others are parts of."""
    boxes = _SIZE.findall(data, 0, 2**16)
    sizes = ((int.from_bytes(width), int.from_bytes(height)) for width, height in boxes)
    return max(sizes, key=lambda size: size[0] * size[1], default=None)

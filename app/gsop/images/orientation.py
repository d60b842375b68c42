"""How a stored image is turned upright: EXIF's eight orientations."""

import struct

from PIL import ExifTags, Image

from gsop.images.base import Pixels

_INVERSE = {6: 8, 8: 6}
"""The orientations that are not their own inverse."""


def orientation_of(exif: object) -> int:
    """The orientation in an EXIF block, 1 to 8; 1, upright, if there is none that can be read."""
    if not isinstance(exif, bytes) or not exif:  # a PNG's text chunk named exif is a str
        return 1
    tags = Image.Exif()
    try:
        tags.load(exif)
    except (SyntaxError, struct.error):
        return 1
    value = tags.get(ExifTags.Base.Orientation, 1)
    return int(value) if value in range(1, 9) else 1


def turn(pixels: Pixels, orientation: int) -> Pixels:
    """A view of ``pixels`` as EXIF tag 274 wants them seen (CIPA DC-008, 4.6.4 A)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def turn_back(pixels: Pixels, orientation: int) -> Pixels:
    """A view of ``pixels`` as :func:`turn` was given them."""
    return turn(pixels, _INVERSE.get(orientation, orientation))

"""What every decoder hands over, and how it refuses a file."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gsop.errors import ImageTooLarge, InvalidImage

Pixels = npt.NDArray[np.uint8]


class Decoded(NamedTuple):
    """Pixels as they are stored, ``(H, W)`` or ``(H, W, 3)``, and what they are to become.

    Attributes:
        pixels: perhaps of a reduced image.
        orientation: EXIF's.
        size: height and width of the whole image; those of ``pixels`` if it is absent.
        halvings: how often the decoder has halved the whole image.
    """

    pixels: Pixels
    orientation: int = 1
    size: tuple[int, int] | None = None
    halvings: int = 0


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raises :class:`ImageTooLarge` for an image whose header announces more than is decoded."""
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"The image is {width}x{height}, {width * height} pixels; "
            f"at most {max_pixels} are decoded: send it scaled down."
        )


def unreadable(name: str) -> InvalidImage:
    """What a file of the format ``name`` is refused with, if its decoder cannot say more."""
    return InvalidImage(
        f"The {name} image is damaged, incomplete or of a rare kind; "
        "send the whole file, or save it anew as JPEG or as PNG of 8 bits a sample."
    )

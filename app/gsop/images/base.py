"""What a decoder is: it reads a file's header at once, and its pixels when it is told to.

In between the size is judged, for all decoders in one place (:mod:`gsop.images.formats`). A decoder
refuses what costs more work than its size tells (:class:`gsop.errors.InvalidImage`), and declines
what another one may read (:class:`Declined`).
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from gsop.errors import InvalidImage

Pixels = npt.NDArray[np.uint8]


class Decoded(NamedTuple):
    """Pixels as they are stored, ``(H, W)`` or ``(H, W, 3)``, and what they are to become.

    Attributes:
        pixels: perhaps of a reduced image.
        orientation: how they are turned upright, 1 to 8 as EXIF counts, whether EXIF or the
            container says it.
        size: height and width of the whole image; those of ``pixels`` if it is absent.
        halvings: how often the decoder has halved the whole image, odd sides rounded up.
    """

    pixels: Pixels
    orientation: int = 1
    size: tuple[int, int] | None = None
    halvings: int = 0


class Opened(Protocol):
    """An image of which nothing but the header has been read."""

    @property
    def width(self) -> int:
        """Of the stored image, before it is turned."""

    @property
    def height(self) -> int:
        """Of the stored image, before it is turned."""

    def decode(self, short_side: int | None) -> Decoded:
        """The pixels.

        Args:
            short_side: what the short side will be scaled to. The image may come halved, as often
                as its short side stays that long: detail is left out that would be averaged away.
                ``None``: all pixels are wanted.

        Raises:
            InvalidImage: if decoding would take too much work, or a network cannot use the samples.
            Declined: if this decoder cannot read the file.
        """


Decoder = Callable[[bytes], Opened]
"""Reads the header of a whole file of its format; raises what :meth:`Opened.decode` raises."""


class Declined(Exception):
    """This decoder cannot read the file; the next one of the format may."""


def unreadable(name: str) -> InvalidImage:
    """What a file of the format ``name`` is refused with, if there is no more to say."""
    return InvalidImage(
        f"The {name} image is damaged, incomplete or of a rare kind; "
        "send the whole file, or save it anew as JPEG or as PNG of 8 bits a sample."
    )

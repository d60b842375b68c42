"""Every format that Pillow decodes."""

import logging
import warnings
from io import BytesIO
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import (
    AvifImagePlugin,  # noqa: F401 - registers a format that Image.open
    Image,
    ImageChops,
    ImageFile,
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401 - would else look for in all of Pillow's 40 plugins
)

from gsop.errors import ImageTooLarge, InvalidImage
from gsop.images.base import Declined, Decoded, Decoder, Opened, Pixels, unreadable
from gsop.images.fit import to_rgb
from gsop.images.orientation import orientation_of

# What Pillow says of a client's odd file is answered to the client, not printed by the server.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)

_ERRORS = (
    OSError,  # most faults; UnidentifiedImageError is one of them
    ValueError,  # chunks cut short, tiles outside of the image, palettes of the wrong length
    SyntaxError,  # broken PNG chunks after the first data
    IndexError,  # an empty colour profile after the first data of a PNG
    TypeError,  # TIFF tags of the wrong type
    OverflowError,  # TIFF offsets beyond the address space
    EOFError,  # an animated WebP without frames
    AssertionError,  # an indexed PNG without a palette
    RuntimeError,  # an AVIF that is broken behind its header
)
"""What Pillow 11 to 13 raise on hostile bytes, found by reading them and by some million mutated
files. Image.open turns other classes (struct.error, KeyError) into these."""

_MAX_LAYERS = 8
"""How often a TIFF's strips may cover the image: once a band where each band has its own. Strips
can be listed a million times over the same bytes, and Pillow decodes each."""


class _ErrorsTranslated:
    """A context in which Pillow's errors become ours; a generator's would cost 1 µs more, twice."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
            # Pillow's own limit, 179 Mpixel, in force before its plugins can be asked for the size.
            raise ImageTooLarge(
                "The image's header announces more pixels than are decoded: send it scaled down."
            ) from error
        if isinstance(error, _ERRORS):
            raise Declined from error


errors_translated = _ErrorsTranslated()


def by_pillow(name: str) -> Decoder:
    """The decoder of the format that Pillow calls ``name``."""

    def opened(data: bytes) -> Opened:
        with errors_translated:
            return _OpenedByPillow(name, Image.open(BytesIO(data), formats=(name,)))

    return opened


class _OpenedByPillow(NamedTuple):
    name: str
    image: ImageFile.ImageFile

    @property
    def width(self) -> int:
        return self.image.width

    @property
    def height(self) -> int:
        return self.image.height

    def decode(self, short_side: int | None) -> Decoded:
        """See :meth:`gsop.images.base.Opened.decode`. All pixels come, whatever is wanted."""
        with errors_translated, self.image as image:
            _check_effort(image, self.name)
            pixels = _to_screen(image) if self.name == "GIF" else to_array(image, self.name)
            # After the pixels: a PNG may end with its EXIF chunk. TIFFs come turned already.
            return Decoded(pixels, orientation_of(image.info.get("exif")))


def _check_effort(image: ImageFile.ImageFile, name: str) -> None:
    """Refuses the rare kinds with which a small file buys much work."""
    if name == "BMP" and image.info.get("compression") in (1, 2):  # RLE8, RLE4
        # Decoded in Python, pixel by pixel: seconds of the GIL for a file of 60 bytes.
        raise InvalidImage("Run-length coded BMP is not read; save the image as PNG.")
    boxes = (tile.extents for tile in image.tile if tile.extents)
    area = sum((right - left) * (bottom - top) for left, top, right, bottom in boxes)
    if area > _MAX_LAYERS * image.width * image.height:
        raise unreadable(name)


def _to_screen(image: ImageFile.ImageFile) -> Pixels:
    """A GIF's first frame, which may cover a part of the screen: browsers see through the rest."""
    boxes = [tile.extents for tile in image.tile]
    if len(boxes) != 1 or boxes[0] in (None, (0, 0, *image.size)):
        return to_array(image, "GIF")
    image.load()
    box = boxes[0]
    frame = to_rgb(to_array(image.crop(box), "GIF"))
    screen = np.full((image.height, image.width, 3), 255, np.uint8)
    screen[box[1] : box[3], box[0] : box[2]] = frame
    return screen


def to_array(image: Image.Image, name: str) -> Pixels:
    """Decodes; ``(H, W)`` for grey, else ``(H, W, 3)``."""
    image.load()
    if image.mode in ("I", "F", "LAB", "HSV"):
        raise InvalidImage(
            f"The {name} image has samples of 32 bits or of an unusual colour space; "
            "convert it to RGB or grey of 8 or 16 bits a sample."
        )
    if image.mode.startswith("I;16"):
        return _to_8_bits(np.asarray(image), image.info.get("transparency"))
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        return np.asarray(_over_white(image.convert("RGBA")))
    if image.mode == "CMYK" and name == "JPEG" and "adobe" not in image.info:
        # Pillow takes every CMYK JPEG for one of Adobe's, which store 255 - ink.
        image = ImageChops.invert(image)
    if image.mode == "1":
        image = image.convert("L")
    return np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))


def _to_8_bits(samples: npt.NDArray[np.uint16], transparent: int | None) -> Pixels:
    """Scales grey samples, where Pillow's own conversion clips them at 255."""
    grey = np.asarray(cv2.convertScaleAbs(samples.astype(np.uint16), alpha=255 / 65535), np.uint8)
    if transparent is not None:
        grey[samples == transparent] = 255
    return grey


def _over_white(image: Image.Image) -> Image.Image:
    """RGBA to RGB. White, because that is the paper that most cut-out pictures are drawn for.

    The colour stored under full transparency is arbitrary (often black, which would swallow dark
    line art), so it must not reach the network.
    """
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(image, mask=image)
    return canvas

"""Bytes to pixels: a checked, cropped, resized uint8 array. No torch.

What a version's manifest says of its input (:class:`InputSpec`) is all that this module obeys, so
serving, evaluating and training see the same pixels::

    bytes ── magic number ─┬─ JPEG ──── simplejpeg ──┬── centre rectangle ── resize ── turn ── out
                           │               │ refuses │
                           └─ the others ─ Pillow ───┘

The size in the header is judged before any pixel is decoded. Colour profiles are not applied, as
the pipelines that networks are trained with do not apply them either.
"""

import logging
import struct
import warnings
from collections.abc import Iterator
from io import BytesIO
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import (
    ExifTags,
    Image,
    ImageChops,
    ImageFile,
    TiffImagePlugin,  # noqa: F401 - registers a format that Image.open
    WebPImagePlugin,  # noqa: F401 - would else look for in all of Pillow's 40 plugins
)
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from gsop.errors import ImageTooLarge, InvalidImage

# Images are decoded side by side in a pool of threads; threads inside of OpenCV would only compete.
cv2.setNumThreads(1)

# What Pillow says of a client's odd file is answered to the client, not printed by the server.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)

Interpolation = Literal["bilinear", "bicubic"]
Channels = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
Pixels = npt.NDArray[np.uint8]


class InputSpec(BaseModel):
    """How an image becomes a network's input.

    The short side is scaled to ``resize``, the centre ``height`` × ``width`` is cropped, and the
    engine computes ``(pixel / 255 - mean) / std`` for each of R, G, B. When the image shrinks,
    pixels are averaged over their area; ``interpolation`` is how it is enlarged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)
    resize: int = Field(ge=1, le=8192)
    mean: Channels
    std: Channels
    interpolation: Interpolation = "bilinear"

    @model_validator(mode="after")
    def _crop_fits(self) -> "InputSpec":
        if self.resize < max(self.height, self.width):
            raise ValueError(
                f"resize {self.resize} is smaller than the crop {self.height}x{self.width}"
            )
        if min(self.std) <= 0:
            raise ValueError("every std must be positive")
        return self


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
    name = _format_of(data)
    if name == "JPEG":
        decoded = _decode_jpeg(data, max_pixels, spec.resize)
    else:
        decoded = _decode_with_pillow(data, name, max_pixels)
    _fit(decoded, out, spec)


def decode_whole(data: bytes, *, max_pixels: int) -> Pixels:
    """All of the image in ``data``, upright, as a new (H, W, 3) array, R, G, B: for training.

    Raises:
        InvalidImage: as :func:`decode_into` does.
        ImageTooLarge: as :func:`decode_into` does.
    """
    name = _format_of(data)
    if name == "JPEG":
        decoded = _decode_jpeg(data, max_pixels)
    else:
        decoded = _decode_with_pillow(data, name, max_pixels)
    pixels = decoded.pixels
    if pixels.ndim == 2:
        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)
    return _turn(pixels, decoded.orientation)


def centred(pixels: Pixels, spec: InputSpec) -> Pixels:
    """What :func:`decode_into` makes of an image, from its pixels (H, W, 3)."""
    out = np.empty((spec.height, spec.width, 3), np.uint8)
    _fit(_Decoded(pixels), out, spec)
    return out


def scaled(pixels: Pixels, height: int, width: int, interpolation: Interpolation) -> Pixels:
    """All of ``pixels`` (H, W, 3), scaled by the filters of :func:`decode_into`."""
    halvings = min(_halvings(pixels.shape[0], height), _halvings(pixels.shape[1], width))
    out = np.empty((height, width, 3), np.uint8)
    _resize(pixels, halvings, out, interpolation)
    return out


class _Decoded(NamedTuple):
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


# --- formats and limits -------------------------------------------------------------------------

_MAGIC_NUMBERS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"BM": "BMP",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}


def _format_of(data: bytes) -> str:
    """Pillow's name of the format that ``data`` begins as."""
    if not data:
        raise InvalidImage("There are no bytes; send a whole image file.")
    for magic, name in _MAGIC_NUMBERS.items():
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    raise InvalidImage(
        "The bytes are no JPEG, PNG, WebP, BMP, TIFF or GIF; send an image in one of these formats."
    )


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"The image is {width}x{height}, {width * height} pixels; "
            f"at most {max_pixels} are decoded: send it scaled down."
        )


def _unreadable(name: str) -> InvalidImage:
    return InvalidImage(
        f"The {name} image is damaged, incomplete or of a rare kind; "
        "send the whole file, or save it anew as JPEG or as PNG of 8 bits a sample."
    )


# --- JPEG ---------------------------------------------------------------------------------------

_SOF0, _SOF1, _RST0, _EOI, _SOS, _APP1 = 0xC0, 0xC1, 0xD0, 0xD9, 0xDA, 0xE1

_MAX_SCANS = 50
"""Scans of a progressive JPEG. Each costs a pass over all pixels, however few bytes it has: without
a limit, 10 MB keep a core busy for hours. libjpeg writes 10 for colour images and 18 for CMYK."""


_MAX_DCT_HALVINGS = 3
"""A block of 8×8 coefficients can become 4×4, 2×2 or a single pixel."""


def _decode_jpeg(data: bytes, max_pixels: int, short_side: int | None = None) -> _Decoded:
    """Pixels as they are stored, and their orientation. libjpeg-turbo runs without the GIL.

    With ``short_side``, an image of which the short side is at least twice that long comes halved,
    as often as possible: the decoder leaves fine detail out that would be averaged away.
    """
    exif, scans = _survey_jpeg(data)
    if scans > _MAX_SCANS:
        raise InvalidImage(
            f"The JPEG image has more than {_MAX_SCANS} scans; save it anew as a baseline JPEG."
        )
    try:
        height, width, colour, _ = simplejpeg.decode_jpeg_header(data)
        _check_size(width, height, max_pixels)
        if colour in ("CMYK", "YCCK"):
            return _decode_with_pillow(data, "JPEG", max_pixels)
        halvings = _halvings(min(height, width), short_side) if short_side else 0
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
        return _decode_with_pillow(data, "JPEG", max_pixels)
    return _Decoded(
        pixels[..., 0] if colour == "Gray" else pixels,
        _orientation(exif),
        (height, width),
        halvings,
    )


def _survey_jpeg(data: bytes) -> tuple[bytes, int]:
    """The EXIF segment of a JPEG, empty if there is none, and an upper bound on its scans."""
    exif = components = components_in_scan = b""
    for marker, payload in _jpeg_segments(data):
        if marker == _APP1 and payload.startswith(b"Exif\0\0"):
            exif = exif or payload
        elif marker in (_SOF0, _SOF1):
            components = payload[5:6]
        elif marker == _SOS:
            components_in_scan = payload[:1]
    if components and components == components_in_scan:
        return exif, 1  # sequential, and the first scan holds everything: libjpeg reads no further
    return exif, data.count(bytes((0xFF, _SOS)))


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
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


# --- the other formats, by Pillow ---------------------------------------------------------------

_PILLOW_ERRORS = (
    OSError,  # most faults; UnidentifiedImageError is one of them
    ValueError,  # chunks cut short, tiles outside of the image, palettes of the wrong length
    SyntaxError,  # broken PNG chunks after the first data
    IndexError,  # an empty colour profile after the first data of a PNG
    TypeError,  # TIFF tags of the wrong type
    OverflowError,  # TIFF offsets beyond the address space
    EOFError,  # an animated WebP without frames
    AssertionError,  # an indexed PNG without a palette
)
"""What Pillow 11 to 13 raise on hostile bytes, found by reading them and by some million mutated
files. Image.open turns other classes (struct.error, KeyError) into these."""

_MAX_LAYERS = 8
"""How often a TIFF's strips may cover the image: once a band where each band has its own. Strips
can be listed a million times over the same bytes, and Pillow decodes each."""


def _decode_with_pillow(data: bytes, name: str, max_pixels: int) -> _Decoded:
    try:
        with Image.open(BytesIO(data), formats=(name,)) as image:
            _check_size(image.width, image.height, max_pixels)
            _check_effort(image, name)
            pixels = _to_array(image, name)
            # After the pixels: a PNG may end with its EXIF chunk. TIFFs come turned already.
            return _Decoded(pixels, _orientation(image.info.get("exif")))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow's own limit, 179 Mpixel, in force before its plugins can be asked for the size.
        raise ImageTooLarge(
            "The image's header announces more pixels than are decoded: send it scaled down."
        ) from error
    except _PILLOW_ERRORS as error:
        raise _unreadable(name) from error


def _check_effort(image: ImageFile.ImageFile, name: str) -> None:
    """Refuses the rare kinds with which a small file buys much work."""
    if name == "BMP" and image.info.get("compression") in (1, 2):  # RLE8, RLE4
        # Decoded in Python, pixel by pixel: seconds of the GIL for a file of 60 bytes.
        raise InvalidImage("Run-length coded BMP is not read; save the image as PNG.")
    boxes = (tile.extents for tile in image.tile if tile.extents)
    area = sum((right - left) * (bottom - top) for left, top, right, bottom in boxes)
    if area > _MAX_LAYERS * image.width * image.height:
        raise _unreadable(name)


def _to_array(image: Image.Image, name: str) -> Pixels:
    """Decodes; ``(H, W)`` for grey, else ``(H, W, 3)``."""
    image.load()
    if image.mode in ("I", "F", "LAB", "HSV"):
        raise InvalidImage(
            f"The {name} image has samples of 32 bits or of an unusual colour space; "
            "convert it to RGB or grey of 8 or 16 bits a sample."
        )
    if image.mode.startswith("I;16"):
        return _to_8_bits(np.asarray(image), image.info.get("transparency"))
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


# --- orientation --------------------------------------------------------------------------------

_INVERSE = {6: 8, 8: 6}
"""The orientations that are not their own inverse."""


def _orientation(exif: object) -> int:
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


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    """A view of ``pixels`` as EXIF tag 274 wants them seen (CIPA DC-008, 4.6.4 A)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


# --- geometry -----------------------------------------------------------------------------------

_ENLARGE = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}


def _fit(decoded: _Decoded, out: Pixels, spec: InputSpec) -> None:
    """Cuts the centre out of an image, resizes it and turns it upright, into ``out``.

    The small result is turned, not the large image; which rectangle is cut is decided on the
    upright view of the whole image, so that the same pixels come out.
    """
    pixels, orientation = decoded.pixels, decoded.orientation
    height, width = decoded.size or pixels.shape[:2]
    turned = orientation >= 5
    size = (width, height) if turned else (height, width)
    halvings = _halvings(min(size), spec.resize)
    box = _centre(size, halvings, spec, decoded.halvings)
    centre = _turn(_turn(pixels, orientation)[box], _INVERSE.get(orientation, orientation))
    halvings -= decoded.halvings
    if orientation == 1 and pixels.ndim == 3:
        _resize(centre, halvings, out, spec.interpolation)
        return
    shape = (spec.width, spec.height) if turned else (spec.height, spec.width)
    small = np.empty((*shape, *pixels.shape[2:]), np.uint8)
    _resize(centre, halvings, small, spec.interpolation)
    if small.ndim == 2:
        small = np.asarray(cv2.cvtColor(small, cv2.COLOR_GRAY2RGB), np.uint8)
    out[...] = _turn(small, orientation)


def _halvings(short: int, wanted: int) -> int:
    """How often a side of ``short`` pixels can be halved and is still at least ``wanted``."""
    return max(0, (short // wanted).bit_length() - 1)


def _centre(
    size: tuple[int, int], halvings: int, spec: InputSpec, halved: int
) -> tuple[slice, slice]:
    """The rectangle that becomes the input.

    Args:
        size: height and width of the whole image.
        halvings: how often the rectangle will be halved; its sides and its place allow it.
        spec: what it becomes.
        halved: how often the image has been halved already, which the rectangle is for.
    """
    short, unit = min(size), spec.resize << halvings
    box = []
    for side, target in zip(size, (spec.height, spec.width), strict=True):
        length = (2 * target * short + unit) // (2 * unit)  # target · short / unit, rounded
        length = min(max(length, 1), short >> halvings) << halvings
        start = (side - length) // 2 >> halvings << halvings
        box.append(slice(start >> halved, start + length >> halved))
    return box[0], box[1]


def _resize(pixels: Pixels, halvings: int, out: Pixels, enlarge: Interpolation) -> None:
    """Scales ``pixels`` to the shape of ``out``.

    Shrinking is built of the two kernels that OpenCV has vectorised, exact 2×2 means and bilinear
    enlarging: halve until less than a factor of 2 is left, then average four bilinear samples for
    each output pixel. At 328→224 that takes half the time of ``INTER_AREA`` and comes closer to
    the antialiased bilinear filter of the usual training pipelines; at 2624→224 a fifth.
    """
    for _ in range(halvings):
        pixels = _scale(pixels, pixels.shape[0] // 2, pixels.shape[1] // 2, cv2.INTER_AREA)
    height, width = out.shape[:2]
    if pixels.shape[0] > height or pixels.shape[1] > width:
        pixels = _scale(pixels, 2 * height, 2 * width, cv2.INTER_LINEAR)
        cv2.resize(pixels, (width, height), dst=out, interpolation=cv2.INTER_AREA)
    else:
        cv2.resize(pixels, (width, height), dst=out, interpolation=_ENLARGE[enlarge])


def _scale(pixels: Pixels, height: int, width: int, interpolation: int) -> Pixels:
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=interpolation), np.uint8)

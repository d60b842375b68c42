"""All that a process does at its first images, done before it gets one.

Pillow imports some of its modules when a file wants them, OpenCV and the C library set themselves
up at first use. In its cage (:mod:`gsop.processes.cage`) a decoder can open no file any more.
"""

from functools import cache
from importlib import import_module
from io import BytesIO

from PIL import Image

from gsop.images.decoding import decode
from gsop.images.spec import InputSpec

_LATE = (
    *("PIL.BmpImagePlugin", "PIL.GifImagePlugin", "PIL.ImageCms", "PIL.ImageColor"),
    *("PIL.ImageFilter", "PIL.ImagePalette", "PIL.JpegImagePlugin", "PIL.MpoImagePlugin"),
    *("PIL.PngImagePlugin", "PIL.PpmImagePlugin", "copy"),
)
"""What Pillow imports when a file, or a conversion of its pixels, wants it."""

_KINDS = (
    *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
    *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(("WEBP", mode) for mode in ("RGB", "RGBA")),
    *(("BMP", mode) for mode in ("P", "RGB")),
    *(("TIFF", mode) for mode in ("1", "L", "RGB", "RGBA", "CMYK")),
    *(("GIF", mode) for mode in ("P",)),
)
"""Formats and modes, as Pillow calls them: one image of each is decoded."""

_SPEC = InputSpec(height=6, width=8, resize=8, mean=(0.5,) * 3, std=(0.5,) * 3)


@cache
def prepare() -> None:
    """Import and set up whatever decoding may use; once in a process, or before it is forked."""
    for module in _LATE:
        import_module(module)
    for name, mode in _KINDS:
        for side in (5, 40):  # enlarged and shrunk
            file = BytesIO()
            Image.new(mode, (side, side)).save(file, name)
            decode(file.getvalue(), _SPEC, max_pixels=side * side)

"""Bytes to pixels: a checked, cropped, resized uint8 array. No torch.

What a version's manifest says of its input (:class:`InputSpec`) is all that this package obeys, so
serving, evaluating and training see the same pixels::

    bytes ── magic number ─┬─ JPEG ──── simplejpeg ───┬── centre rectangle ── resize ── turn ── out
                           │               │ declines │
                           ├─ HEIC ──── libheif ──────┤
                           └─ the others ─ Pillow ────┘

The table in :mod:`gsop.images.formats` says which decoders a format has. The size in the header is
judged before any pixel is decoded. Colour profiles are not applied, as the pipelines that networks
are trained with do not apply them either.
"""

from gsop.images.base import Pixels
from gsop.images.decoding import decode, decode_into, decode_whole
from gsop.images.fit import centred, scaled
from gsop.images.formats import FORMAT_NAMES, SUFFIXES, is_image
from gsop.images.preparation import prepare
from gsop.images.spec import Channels, InputSpec, Interpolation

__all__ = [
    "FORMAT_NAMES",
    "SUFFIXES",
    "Channels",
    "InputSpec",
    "Interpolation",
    "Pixels",
    "centred",
    "decode",
    "decode_into",
    "decode_whole",
    "is_image",
    "prepare",
    "scaled",
]

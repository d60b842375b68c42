"""Bytes to pixels: a checked, cropped, resized uint8 array. No torch."""

from gsop.images.pillow import (
    Channels,
    InputSpec,
    Interpolation,
    Pixels,
    centred,
    decode,
    decode_into,
    decode_whole,
    scaled,
)

__all__ = [
    "Channels",
    "InputSpec",
    "Interpolation",
    "Pixels",
    "centred",
    "decode",
    "decode_into",
    "decode_whole",
    "scaled",
]

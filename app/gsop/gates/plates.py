"""Small pictures of numbers, without titles or scales: what reports are put together of.

A gate's colour can be read on three scales. ``full`` runs from closed to open; ``half`` spreads
what lies around one half, where gates of a young network are and none of the full scale's colours
differ; ``logit`` spreads both ends, where trained gates are.
"""

import math
from io import BytesIO
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from gsop.gates.picture import colour_map
from gsop.gates.population import as_logits

Numbers = npt.NDArray[np.floating]
Colours = npt.NDArray[np.uint8]
Scale = Literal["full", "half", "logit"]
T = TypeVar("T", bound=np.generic)

SCALES: dict[Scale, tuple[float, float]] = {
    "full": (0.0, 1.0),
    "half": (0.4, 0.6),
    "logit": (1 / (1 + math.exp(6)), 1 / (1 + math.exp(-6))),
}
"""The gates that take each scale's first and last colour; what lies beyond takes them too."""

_COLD, _MIDDLE, _WARM = (0x21, 0x5F, 0xA8), (0xF6, 0xF4, 0xF1), (0xB2, 0x3A, 0x22)
_PAPER = (0xE4, 0xE4, 0xEA)


def on_scale(gates: Numbers, scale: Scale) -> Numbers:
    """Where gates lie between the ends of a scale, 0 to 1."""
    low, high = SCALES[scale]
    if scale == "logit":
        gates, low, high = as_logits(gates), -6.0, 6.0
    places: Numbers = np.clip((gates - low) / (high - low), 0, 1)
    return places


def signed_colours(values: Numbers) -> Colours:
    """The colours of numbers from -1 (blue) over 0 (pale) to 1 (red), of any shape."""
    stops = (-1.0, 0.0, 1.0)
    channels = (np.interp(values, stops, c) for c in zip(_COLD, _MIDDLE, _WARM, strict=True))
    return np.stack([channel.round().astype(np.uint8) for channel in channels], axis=-1)


def gate_colours(gates: Numbers, scale: Scale = "full") -> Colours:
    """The colours of gates, of any shape."""
    return colour_map(on_scale(gates, scale))


def in_rows(values: npt.NDArray[T], columns: int = 0) -> npt.NDArray[T]:
    """A vector ``(C, …)`` in rows ``(rows, columns, …)``, padded with NaN or 0.

    Args:
        values: one entry a channel.
        columns: of a row; as many as make the whole twice as wide as it is high if 0.
    """
    count = len(values)
    columns = columns or min(count, 1 << max(0, round(math.log2(2 * count) / 2)))
    rows = -(-count // columns)
    fill = np.nan if np.issubdtype(values.dtype, np.floating) else 0
    padded = np.full((rows * columns, *values.shape[1:]), fill, values.dtype)
    padded[:count] = values
    return padded.reshape(rows, columns, *values.shape[1:])


def gate_plate(gates: Numbers, *, scale: Scale = "full", width: int = 384) -> bytes:
    """A gate as a picture: channels in rows, from the left, or the map that a position gate is.

    Args:
        gates: ``(C,)`` or ``(H, W)``.
        scale: on which its colours are read.
        width: of the picture, about, in pixels.
    """
    cells = in_rows(gates) if gates.ndim == 1 else gates
    colours = gate_colours(np.nan_to_num(cells), scale)
    colours[np.isnan(cells)] = _PAPER
    return png(colours, width)


def matrix_plate(matrix: Numbers, width: int = 384) -> bytes:
    """A matrix from -1 (blue) to 1 (red) as a picture, each number a square."""
    return png(signed_colours(matrix), width)


def feature_plate(features: Numbers, width: int = 384) -> bytes:
    """Feature maps ``(d, h, w)`` as tiles, each from its own least to its own greatest number."""
    low = features.min(axis=(1, 2), keepdims=True)
    spread = features.max(axis=(1, 2), keepdims=True) - low
    shares = np.divide(features - low, spread, out=np.zeros_like(features), where=spread > 0)
    framed = np.pad(shares, ((0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    tiles = in_rows(framed)  # (rows, columns, h + 1, w + 1)
    rows, columns, height, wide = tiles.shape
    whole = tiles.transpose(0, 2, 1, 3).reshape(rows * height, columns * wide)
    colours = colour_map(np.nan_to_num(whole))
    colours[np.isnan(whole)] = _PAPER
    return png(colours, width)


def bar_plate(values: Numbers, width: int = 384, height: int = 160) -> bytes:
    """Numbers as bars from the left, those below 0 downwards; the greatest fills the height."""
    wide = max(1, width // max(1, len(values)))
    top, bottom = max(0.0, float(values.max())), min(0.0, float(values.min()))
    unit = (height - 1) / ((top - bottom) or 1)
    zero = round(top * unit)
    colours = np.full((height, wide * len(values), 3), _MIDDLE, np.uint8)
    for at, value in enumerate(values):
        first, last = sorted((zero, round((top - float(value)) * unit)))
        right = max(1, wide - (wide > 3))
        colours[first : last + 1, at * wide : at * wide + right] = _COLD if value >= 0 else _WARM
    return png(colours, colours.shape[1])


def image_plate(pixels: npt.NDArray[np.uint8], width: int = 256) -> bytes:
    """An image ``(H, W, 3)``."""
    return png(pixels, width)


def laid_over(
    pixels: npt.NDArray[np.uint8], gate: Numbers, *, scale: Scale = "full", width: int = 256
) -> bytes:
    """A position gate ``(h, w)`` laid over its image: the image in grey, tinted by the gate."""
    height, wide = pixels.shape[:2]
    grey = np.asarray(Image.fromarray(pixels).convert("L"), np.float32)[..., None] / 255
    tint = Image.fromarray(gate_colours(gate, scale)).resize(
        (wide, height), Image.Resampling.BILINEAR
    )
    mixed = np.asarray(tint, np.float32) * (0.35 + 0.65 * grey)
    return png(mixed.round().astype(np.uint8), width)


def png(colours: Colours, width: int) -> bytes:
    """Colours ``(h, w, 3)`` as a PNG file, each cell a block of pixels; about ``width`` wide."""
    times = max(1, round(width / colours.shape[1]))
    blocks = colours.repeat(times, axis=0).repeat(times, axis=1)
    stream = BytesIO()
    Image.fromarray(np.ascontiguousarray(blocks)).save(stream, "PNG", optimize=True)
    return stream.getvalue()

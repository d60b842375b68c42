"""A picture of one prediction's attention gates, drawn with Pillow alone.

One panel a gate: channel gates as a grid of cells, one a channel, row by row in channel order;
position gates as the map that they are. All panels share one fixed scale from 0 (closed, dark) to
1 (open, light), so that pictures of different predictions and models can be laid side by side.
"""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from gsop.model.config import GateSpec

Values = npt.NDArray[np.float32]
Gate = tuple[GateSpec, Values]

# Evenly spaced from 0 to 1. Drawn up in OKLab (B. Ottosson, 2020): lightness rises in equal steps
# from 0.2 to 0.95 while the hue turns from indigo through magenta and orange to yellow, so equal
# differences of a gate look equally large, in grey and to the colour-blind too.
_ANCHORS = (
    (0x15, 0x06, 0x40),
    (0x3D, 0x06, 0x65),
    (0x71, 0x05, 0x72),
    (0xA6, 0x13, 0x66),
    (0xCD, 0x3D, 0x4A),
    (0xE9, 0x69, 0x30),
    (0xF6, 0x99, 0x27),
    (0xF9, 0xC9, 0x50),
    (0xF7, 0xF5, 0x8A),
)

_PAPER, _INK, _FAINT, _FRAME = "#ffffff", "#1b1b24", "#686874", "#b9b9c4"

_LANDSCAPE = 16 / 9
"""The shape of a slide, which the arrangement of the panels comes as close to as it can."""

# Pixels.
_MARGIN, _GAP = 56, 48
_TITLE, _HEADING, _TEXT, _SMALL = 34, 24, 17, 13
_HEADER = 120  # height of title and colour bar
_CAPTION = (320, 66)  # a panel's two lines: the room that they need
_BAR = (360, 16)


def colour_map(values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """The colours of gates.

    Args:
        values: of any shape; what lies outside of 0 to 1 takes the colour of the nearer end.

    Returns:
        R, G, B in a new last dimension.
    """
    stops = np.linspace(0, 1, len(_ANCHORS))
    channels = (np.interp(values, stops, channel) for channel in zip(*_ANCHORS, strict=True))
    return np.stack([channel.round().astype(np.uint8) for channel in channels], axis=-1)


@dataclass(frozen=True)
class Scale:
    """What the colours mean.

    Attributes:
        top: the value of the last colour; the first is that of 0.
        legend: stands beside the colour bar.
    """

    top: float = 1.0
    legend: str = "0 closes, 1 opens"


def draw_gates(gates: Sequence[Gate], *, title: str, scale: Scale = Scale()) -> bytes:
    """Draws the gates of one prediction, or what else there is of each of their numbers.

    Args:
        gates: each gate's description and its values from 0 to ``scale.top``, of the described
            shape or flat; in network order.
        title: stands above the panels; cut where it is too long.
        scale: what the colours mean.

    Returns:
        A PNG file, 752 to 4480 pixels wide for 1 to 100 gates.

    Raises:
        ValueError: if a gate does not have as many values as its description says.
    """
    box = _box(len(gates))
    rows = _arrange([_Panel(spec, values.reshape(spec.shape), box) for spec, values in gates])
    picture = Image.new("RGB", _size(rows), _PAPER)
    pen = _Pen(picture, scale)
    pen.header(title)
    top = _MARGIN + _HEADER
    if not rows:
        pen.text((_MARGIN, top), "This network has no gates.", _TEXT, _FAINT)
    for row in rows:
        left = _MARGIN
        for panel in row:
            pen.panel(panel, left, top)
            left += panel.width + _GAP
        top += _row_height(row) + _GAP
    stream = BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


# --- layout -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Panel:
    """One gate: a caption of two lines above a picture of the values.

    Attributes:
        spec: which gate it is.
        values: of the shape that ``spec`` says.
        box: the largest width and height of the picture, in pixels. Channels fill it, with cells
            that need not be square; a map keeps its proportions.
    """

    spec: GateSpec
    values: Values
    box: tuple[int, int]

    @property
    def picture(self) -> tuple[int, int]:
        """Width and height of the picture in pixels."""
        if self.spec.kind == "channel":
            return self.box
        height, width = self.values.shape
        scale = min(self.box[0] / width, self.box[1] / height)
        return max(1, round(width * scale)), max(1, round(height * scale))

    @property
    def width(self) -> int:
        """Pixels of caption or picture, whichever is wider."""
        return max(_CAPTION[0], self.picture[0])

    def cells(self) -> Values:
        """The values in rows; NaN in a last row of channels that is not full."""
        if self.spec.kind == "position":
            return self.values
        count = self.values.size
        columns = 1 << math.floor(math.log2(2 * count) / 2 + 0.5)  # cells near to squares
        columns = min(columns, count, self.box[0])
        cells = np.full((-(-count // columns), columns), np.nan, np.float32)
        cells.flat[:count] = self.values
        return cells


def _box(count: int) -> tuple[int, int]:
    """Width and height of a panel's picture when there are ``count`` panels."""
    return (640, 320) if count <= 8 else (320, 160)


def _arrange(panels: list[_Panel]) -> list[list[_Panel]]:
    """The panels in rows: near to a slide's shape, and with few places left empty."""

    def rows_of(columns: int) -> list[list[_Panel]]:
        return [panels[start : start + columns] for start in range(0, len(panels), columns)]

    def flaw(columns: int) -> float:
        rows = rows_of(columns)
        width, height = _size(rows)
        empty = 1 - len(panels) / (len(rows) * columns)
        return abs(math.log(width / height / _LANDSCAPE)) + empty

    together = len({panel.spec.kind for panel in panels})  # a block's two gates stay side by side
    choices = range(together, len(panels) + together, together) if panels else ()
    return rows_of(min(choices, key=flaw)) if panels else []


def _size(rows: list[list[_Panel]]) -> tuple[int, int]:
    """Width and height of the whole in pixels."""
    widths = [sum(panel.width + _GAP for panel in row) - _GAP for row in rows]
    height = sum(_row_height(row) + _GAP for row in rows) - _GAP
    return 2 * _MARGIN + max([_box(0)[0], *widths]), 2 * _MARGIN + _HEADER + max(height, _TEXT)


def _row_height(row: list[_Panel]) -> int:
    return _CAPTION[1] + max(panel.picture[1] for panel in row)


# --- drawing ------------------------------------------------------------------------------------


class _Pen:
    """Draws on one picture. Holds its fonts, as FreeType's faces cannot be shared by threads."""

    def __init__(self, picture: Image.Image, scale: Scale) -> None:
        self._picture = picture
        self._scale = scale
        self._draw = ImageDraw.Draw(picture)
        sizes = (_TITLE, _HEADING, _TEXT, _SMALL)
        self._fonts = {size: ImageFont.load_default(size) for size in sizes}

    def text(
        self, at: tuple[float, float], text: str, size: int, colour: str, anchor: str = "la"
    ) -> float:
        """Writes, and returns the text's width in pixels."""
        self._draw.text(at, text, colour, self._fonts[size], anchor)
        return self._fonts[size].getlength(text)

    def header(self, title: str) -> None:
        """The title, and below it the colour bar with its scale."""
        room = self._picture.width - 2 * _MARGIN
        self.text((_MARGIN, _MARGIN), self._cut(_legible(title), room), _TITLE, _INK, "lm")
        (width, height), top = _BAR, _MARGIN + 34
        ramp = colour_map(np.linspace(0, 1, width, dtype=np.float32)[None])
        self._paste(Image.fromarray(ramp).resize(_BAR), _MARGIN, top)
        for value in (0, 0.25, 0.5, 0.75, 1):
            x = _MARGIN + round(value * (width - 1))
            self._draw.line((x, top + height, x, top + height + 5), _FRAME)
            self.text((x, top + height + 8), f"{value * self._scale.top:g}", _SMALL, _FAINT, "ma")
        at = (_MARGIN + width + 24, top + height / 2)
        self.text(at, self._scale.legend, _TEXT, _FAINT, "lm")

    def panel(self, panel: _Panel, left: int, top: int) -> None:
        """One gate, its caption's upper left corner at ``left, top``."""
        spec, values = panel.spec, panel.values
        end = left + self.text((left, top + 22), spec.block, _HEADING, _INK, "ls")
        self.text((end + 10, top + 22), spec.kind, _TEXT, _FAINT, "ls")
        self.text((left + panel.width, top + 22), _extent(spec), _TEXT, _FAINT, "rs")
        at: float = left
        for name, value in (("mean", values.mean()), ("min", values.min()), ("max", values.max())):
            at += self.text((at, top + 48), f"{name} ", _TEXT, _FAINT, "ls")
            at += self.text((at, top + 48), f"{value:.3f}", _TEXT, _INK, "ls") + 18
        self._cells(panel, left, top + _CAPTION[1])

    def _cells(self, panel: _Panel, left: int, top: int) -> None:
        cells, (width, height) = panel.cells(), panel.picture
        colours = colour_map(np.nan_to_num(cells) / self._scale.top)
        colours[np.isnan(cells)] = 255
        shrinks = cells.shape[1] > width or cells.shape[0] > height
        how = Image.Resampling.BOX if shrinks else Image.Resampling.NEAREST
        self._paste(Image.fromarray(colours).resize((width, height), how), left, top)
        if panel.spec.kind == "channel":
            self._rows(cells.shape, (left, top, left + width, top + height))

    def _rows(self, shape: tuple[int, ...], box: tuple[int, int, int, int]) -> None:
        """Separates large cells, and numbers the first channel of each row that has room."""
        (rows, columns), (left, top, right, bottom) = shape, box
        across, down = (right - left) / columns, (bottom - top) / rows
        if min(across, down) >= 12:
            for column in range(1, columns):
                x = left + round(column * across)
                self._draw.line((x, top, x, bottom - 1), _PAPER)
            for row in range(1, rows):
                y = top + round(row * down)
                self._draw.line((left, y, right - 1, y), _PAPER)
        for row in range(0, rows, 1 << max(0, math.ceil(math.log2((_SMALL + 3) / down)))):
            middle = top + (row + 0.5) * down
            self.text((left - 6, middle), str(row * columns), _SMALL, _FAINT, "rm")

    def _paste(self, image: Image.Image, left: int, top: int) -> None:
        self._picture.paste(image, (left, top))
        frame = (left - 1, top - 1, left + image.width, top + image.height)
        self._draw.rectangle(frame, outline=_FRAME)

    def _cut(self, text: str, room: float) -> str:
        if self._fonts[_TITLE].getlength(text) <= room:
            return text
        while text and self._fonts[_TITLE].getlength(text + "…") > room:
            text = text[:-1]
        return text + "…"


def _extent(spec: GateSpec) -> str:
    if spec.kind == "position":
        return "{} x {}".format(*spec.shape)
    return f"{spec.size} channel" + "s" * (spec.size > 1)


def _legible(text: str) -> str:
    """``text`` in the characters of Pillow's font: ASCII. Accents are dropped, others become ?."""
    text = unicodedata.normalize("NFKD", text[:200])  # no more would fit
    letters = (c for c in text if not unicodedata.combining(c))
    ascii_only = "".join(letters).encode("ascii", "replace").decode()
    return " ".join("".join(c if c.isprintable() else " " for c in ascii_only).split())

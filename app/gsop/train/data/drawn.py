"""Digits that no scan knows: pen strokes and type, dark on light as on a canvas.

They show how far a model trained on scans carries; nothing is trained on them.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

CANVAS = 280
"""Height and width of every drawing, in pixels."""

Point = tuple[float, float]
"""x to the right and y down, both 0 to 1 over the canvas."""

_OVERSAMPLING = 4

HANDS: tuple[tuple[str, ...], ...] = (
    (
        "35,0 8,30 8,70 35,100 62,70 62,30 35,0",
        "10,25 36,0 | 36,0 36,100",
        "8,25 30,0 58,20 40,60 5,100 | 5,100 65,100",
        "8,12 35,0 58,22 25,47 | 25,47 62,72 35,100 5,88",
        "45,0 5,65 | 5,65 70,65 | 50,35 50,100",
        "60,0 15,0 | 15,0 10,45 | 10,45 40,38 60,68 38,98 5,90",
        "50,0 18,35 8,75 33,100 58,77 36,53 10,70",
        "5,0 65,0 | 65,0 25,100 | 20,50 62,50",
        "56,12 33,0 12,20 33,46 60,75 33,100 8,75 33,46 56,12",
        "58,25 32,0 10,25 32,48 58,25 | 58,25 50,100",
    ),
    (
        "40,2 15,15 5,55 25,98 60,80 68,35 40,2",
        "20,20 40,0 | 40,0 35,100 | 12,100 60,100",
        "5,15 35,0 55,25 30,70 5,95 20,85 45,100 70,92",
        "5,0 60,0 | 60,0 30,40 | 30,40 65,65 40,98 5,90",
        "12,0 8,50 | 8,50 65,50 | 55,0 50,100",
        "15,5 12,42 40,40 58,65 40,98 5,92 | 15,5 60,2",
        "30,0 10,50 20,95 55,90 55,60 12,68",
        "5,12 8,0 | 8,0 60,0 | 60,0 40,45 30,100",
        "35,0 12,22 35,46 58,22 35,0 | 35,46 6,74 35,100 64,74 35,46",
        "55,15 30,0 8,28 30,50 55,30 58,10 55,65 35,100 10,92",
    ),
    (
        "35,0 12,15 5,50 12,85 35,100 58,85 65,50 58,15 35,0",
        "35,0 35,100",
        "5,20 20,2 45,5 55,30 5,100 | 5,100 62,100",
        "10,5 40,0 55,22 40,45 20,47 | 20,47 50,52 62,75 45,97 8,95",
        "50,0 5,60 | 5,60 72,60 | 50,0 50,100",
        "62,0 12,0 | 12,0 12,45 | 12,45 45,40 62,68 45,97 8,95",
        "55,3 25,15 8,60 20,95 50,95 60,70 40,52 10,68",
        "5,0 65,0 | 65,0 25,100",
        "35,0 12,10 12,35 35,47 58,62 60,88 35,100 10,88 12,62 35,47 58,35 58,10 35,0",
        "60,20 35,0 10,15 12,42 35,50 58,35 60,20 | 60,20 58,100",
    ),
)
"""Three ways to write the ten digits. A digit is its strokes, parted by ``|``; a stroke the points
``x,y`` of a smooth curve, in hundredths of the digit's height."""


def draw_strokes(
    strokes: str,
    *,
    height: float = 0.7,
    pen: float = 0.07,
    slant: float = 0.0,
    centre: Point = (0.5, 0.5),
) -> Image.Image:
    """A digit written with a round pen, black on white.

    Args:
        strokes: one digit of :data:`HANDS`.
        height: of the digit, in canvas heights.
        pen: width of the pen, in canvas heights.
        slant: how far the top leans to the right of the foot, in digit heights.
        centre: of the digit on the canvas.

    Returns:
        A grey image of ``CANVAS`` × ``CANVAS``.
    """
    size = CANVAS * _OVERSAMPLING
    radius = pen * size / 2
    curves = [_curve(stroke) for stroke in strokes.split("|")]
    outline = np.concatenate(curves)
    middle = (outline.min(axis=0) + outline.max(axis=0)) / 2
    lean = np.array([[1.0, 0.0], [-slant, 1.0]])
    image = Image.new("L", (size, size), 255)
    brush = ImageDraw.Draw(image)
    for curve in curves:
        placed = (curve - middle) @ lean * height * size + np.array(centre) * size
        brush.line(placed.ravel().tolist(), fill=0, width=round(2 * radius))
        for x, y in placed.tolist():
            brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=0)
    return image.resize((CANVAS, CANVAS), Image.Resampling.BOX)


def draw_type(text: str, *, height: float = 0.7, centre: Point = (0.5, 0.5)) -> Image.Image:
    """A digit in Pillow's own typeface, black on white; sizes as in :func:`draw_strokes`."""
    _, top, _, bottom = ImageFont.load_default(size=CANVAS).getbbox(text)
    font = ImageFont.load_default(size=CANVAS * CANVAS * height / (bottom - top))
    left, top, right, bottom = font.getbbox(text)
    corner = (centre[0] * CANVAS - (left + right) / 2, centre[1] * CANVAS - (top + bottom) / 2)
    image = Image.new("L", (CANVAS, CANVAS), 255)
    ImageDraw.Draw(image).text(corner, text, font=font, fill=0)
    return image


def _curve(stroke: str, steps: int = 24) -> NDArray[np.float64]:
    """Points (M, 2) of the Catmull-Rom spline through those of ``stroke``; two give a line."""
    points = np.array([point.split(",") for point in stroke.split()], dtype=float) / 100
    a, b, c, d = np.concatenate([points[:1], points, points[-1:]])[
        np.arange(4)[:, None] + np.arange(len(points) - 1)
    ][:, :, None]  # each (segments, 1, 2)
    t = np.linspace(0, 1, steps)[:, None]
    spline = b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return np.asarray(spline.reshape(-1, 2))

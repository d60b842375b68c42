"""What a network is about to see: the first images of a training, as they were varied."""

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gsop.train.data.loader import Part

SHOWN = 32
"""Images at most."""

CAPTION = 16
"""Pixels below each image for its class."""


def write_preview(part: Part, labels: tuple[str, ...], file: Path) -> None:
    """Draw the images of a part of a step side by side, each with its class below, as a PNG file.

    Args:
        part: of the step.
        labels: one text a class.
        file: to write.

    Raises:
        OSError: if it cannot be written.
    """
    pixels = part.pixels[:SHOWN].cpu().numpy()
    count, height, width = pixels.shape[:3]
    cell_width = max(width, 4 * CAPTION)
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = Image.new("RGB", (columns * cell_width, rows * (height + CAPTION)), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(CAPTION - 5)
    for number, (image, label) in enumerate(zip(pixels, part.labels.tolist(), strict=False)):
        left, top = number % columns * cell_width, number // columns * (height + CAPTION)
        sheet.paste(Image.fromarray(np.ascontiguousarray(image)), (left, top))
        pen.text((left + 1, top + height + 1), labels[label][:24], fill="black", font=font)
    sheet.save(file, "PNG")

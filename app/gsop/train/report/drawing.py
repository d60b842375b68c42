"""The pictures of a report: confusions, reliability, coverage, and one gate of one image."""

import io
import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from gsop.gates.picture import colour_map
from gsop.images import Pixels
from gsop.model.config import GateSpec
from gsop.train.figure import new_figure
from gsop.train.report.figures import Figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_NAMED = 40
"""Classes that the picture of the confusions can still name."""


def draw_confusion(figures: Figures) -> bytes:
    """The confusions, each row in shares of its class; a PNG file.

    Raises:
        ConfigError: if matplotlib is not installed.
    """
    counts, labels = figures.confusion, figures.answers.labels
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    classes = len(labels)
    side = min(12.0, 3.5 + 0.3 * classes)
    figure = new_figure("the confusions are", side, side)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(
        xlabel="predicted",
        ylabel="true",
        title=f"{figures.top1.share:.2%} of {figures.top1.of} images right",
    )
    if classes <= MOST_NAMED:
        axes.set_xticks(range(classes), labels, rotation=90)
        axes.set_yticks(range(classes), labels)
        for (i, j), count in np.ndenumerate(counts):
            if count and classes <= MOST_NAMED // 2:
                colour = "white" if shares[i, j] > 0.5 else "black"
                axes.text(j, i, str(count), ha="center", va="center", color=colour, fontsize=7)
    return _saved(figure)


def draw_reliability(figures: Figures) -> bytes:
    """Accuracy by confidence, with the intervals of each bin, over how many answers there are.

    Raises:
        ConfigError: if matplotlib is not installed.
    """
    figure = new_figure("the reliability is", 5.2, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    upper.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="dashed", label="honest")
    middles = [b.confidence for b in figures.bins]
    shares = [b.right.share for b in figures.bins]
    below = [max(0.0, b.right.share - b.right.interval[0]) for b in figures.bins]
    above = [max(0.0, b.right.interval[1] - b.right.share) for b in figures.bins]
    upper.errorbar(middles, shares, yerr=(below, above), fmt="o", capsize=3, label="measured, 95 %")
    upper.set(
        title=f"calibration error {figures.calibration_error:.2%}",
        ylabel="right",
        xlim=(0, 1.02),
        ylim=(0, 1.02),
    )
    upper.legend(loc="upper left")
    lower.bar(
        [b.low for b in figures.bins],
        [b.right.of for b in figures.bins],
        width=[b.high - b.low for b in figures.bins],
        align="edge",
        edgecolor="white",
    )
    lower.set(xlabel="confidence", ylabel="images")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    return _saved(figure)


def draw_coverage(figures: Figures) -> bytes:
    """Accuracy of the surest answers, by how many of all they are.

    Raises:
        ConfigError: if matplotlib is not installed.
    """
    figure = new_figure("the coverage is", 5.2, 4.6)
    axes = figure.subplots()
    covered, sure, right = zip(*figures.coverage, strict=True)
    axes.plot(covered, right, marker="o", markersize=3, label="right, of those answered")
    axes.plot(covered, sure, linestyle="dotted", label="least confidence answered")
    axes.set(title="if only the surest are answered", xlabel="answered", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    return _saved(figure)


def draw_gate(spec: GateSpec, values: npt.NDArray[np.floating]) -> bytes:
    """One gate of one image: a map of positions, or a pixel a channel, row by row; a PNG file.

    The colours are those of the service's own pictures: dark closes, light opens.

    Args:
        spec: which gate.
        values: in its shape.
    """
    if spec.kind == "channel":
        columns = math.ceil(math.sqrt(values.size))
        rows = math.ceil(values.size / columns)
        cells = np.full(rows * columns, np.nan)
        cells[: values.size] = values.ravel()
        grid = cells.reshape(rows, columns)
    else:
        grid = values.astype(np.float64)
    colours = colour_map(np.nan_to_num(grid))
    colours[np.isnan(grid)] = 255
    return as_png(colours)


def as_png(pixels: Pixels) -> bytes:
    """An image (H, W, 3) as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _saved(figure: "Figure") -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()

"""Pictures of what was measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.errors import ConfigError
from app.train.compare import Row, mean_and_deviation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_NAMED = 40
"""Classes up to which a confusion matrix names each; more names would overlap."""


def plot_comparison(found: Sequence[Row], file: Path, title: str) -> None:
    """Draw held-out accuracy by variant: a bar for the mean, a dot for each seed.

    Args:
        found: what became of each variant.
        file: to write, PNG.
        title: above the picture.

    Raises:
        ConfigError: if matplotlib is not installed.
        OSError: if it cannot be written.
    """
    figure = _figure(8, 3.6)
    axes = figure.subplots()
    names = [row.variant for row in found]
    means, deviations = zip(*(mean_and_deviation(row.top1) for row in found), strict=True)
    axes.bar(names, means, yerr=deviations, capsize=4, width=0.6, alpha=0.6)
    for place, row in enumerate(found):
        axes.plot([place] * len(row.top1), row.top1, "o", color="black", markersize=3)
    for place, mean in enumerate(means):
        axes.annotate(f"{mean:.1%}", (place, 0.02), ha="center")
    axes.set(title=title, ylabel="top-1, held-out images", ylim=(0, 1.02))
    axes.grid(alpha=0.3, axis="y")
    figure.savefig(file, dpi=120)


def plot_confusion(
    counts: NDArray[np.int64], labels: Sequence[str], file: Path, title: str
) -> None:
    """Draw a confusion matrix: each row, a true class, as shares of its images.

    Args:
        counts: images by true class and by answer, (K, K).
        labels: K texts.
        file: to write, PNG.
        title: above the picture.

    Raises:
        ConfigError: if matplotlib is not installed.
        OSError: if it cannot be written.
    """
    shares = counts / counts.sum(1, keepdims=True).clip(min=1)
    side = 3.5 + 0.18 * min(len(labels), MOST_NAMED)
    figure = _figure(side + 0.8, side)
    axes = figure.subplots()
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="viridis")
    if len(labels) <= MOST_NAMED:
        ticks: Any = range(len(labels))
        axes.set_xticks(ticks, labels, rotation=90, fontsize="small")
        axes.set_yticks(ticks, labels, fontsize="small")
    axes.set(title=title, xlabel="answer", ylabel="true class")
    figure.colorbar(image, label="share of the true class's images")
    figure.savefig(file, dpi=120)


def _figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            "pictures are drawn with matplotlib, which is not installed: pip install 'gsop[train]'"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")

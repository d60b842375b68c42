"""A comparison as a picture."""

from collections.abc import Sequence
from pathlib import Path

from gsop.train.compare import Row, mean_and_deviation
from gsop.train.figure import new_figure


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
    figure = new_figure("the comparison is", 8, 3.6)
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
    figure.savefig(file)

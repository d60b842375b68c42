"""A run's log as pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gsop.train.figure import new_figure
from gsop.train.log import read_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Columns = Mapping[str, Sequence[float | None]]


def plot_run(folder: Path) -> tuple[Path, Path]:
    """Draw :func:`curves` as ``curves.png``, and ``gates.png``, from the log.

    Args:
        folder: the run's.

    Returns:
        The two files. ``gates.png`` shows for each gate its mean over images and channels (or
        positions), and one standard deviation to both sides; it is empty if nothing is gated.

    Raises:
        ConfigError: if matplotlib is not installed.
        OSError: if they cannot be written.
    """
    log = read_log(folder)
    files = folder / "curves.png", folder / "gates.png"
    for figure, file in zip((curves(log), _gates(log)), files, strict=True):
        figure.savefig(file)
    return files


def curves(log: _Columns) -> "Figure":
    """Loss, accuracy and learning rate of a whole run by epochs, with its minutes above.

    Of loss and accuracy there is a line of the training's batches, and one of each look at the
    held-out images, up to the last one; where weights are averaged, another one of what they come
    to without it.

    Args:
        log: as :func:`gsop.train.log.read_log` reads it.

    Raises:
        ConfigError: if matplotlib is not installed.
    """
    figure = new_figure("the curves are", 11, 3.4)
    loss, accuracy, rate = figure.subplots(1, 3)
    _add_lines(loss, log, "loss", "held_out_loss", "plain_loss")
    loss.set(title="loss", xlabel="epoch")
    loss.legend(loc="upper right")
    _add_lines(accuracy, log, "accuracy", "held_out_top1", "plain_top1")
    accuracy.set(title="accuracy", xlabel="epoch", ylim=(0, 1.02))
    accuracy.legend(loc="lower right")
    rate.plot(*_points(log, "learning_rate", "epoch"), linewidth=1)
    rate.set(title="learning rate", xlabel="epoch")
    epochs, minutes = _points(log, "seconds", "epoch")
    for axes in (loss, accuracy, rate):
        axes.grid(alpha=0.3)
        if len(epochs) > 1:
            _add_minutes(axes, epochs, [seconds / 60 for seconds in minutes])
    return figure


def _add_lines(axes: "Axes", log: _Columns, training: str, held_out: str, plain: str) -> None:
    """A line for each of the three columns; that of ``plain`` where anything is in it."""
    axes.plot(*_points(log, training, "epoch"), linewidth=1, label="training batches")
    epochs, values = _points(log, plain, "epoch") if plain in log else ([], [])
    kept = "held out, averaged weights" if epochs else "held out"
    axes.plot(*_points(log, held_out, "epoch"), marker="o", markersize=3, label=kept)
    if epochs:
        label = "held out, without the average"
        axes.plot(epochs, values, linestyle="--", marker="x", markersize=3, label=label)


def _add_minutes(axes: "Axes", epochs: Sequence[float], minutes: Sequence[float]) -> None:
    """A second axis above: how long the run had taken by then."""

    def at(wanted: Any, known: Sequence[float], there: Sequence[float]) -> Any:
        return np.interp(wanted, known, there)

    above = axes.secondary_xaxis(
        "top", functions=(lambda e: at(e, epochs, minutes), lambda m: at(m, minutes, epochs))
    )
    above.set_xlabel("minutes", fontsize="small")
    above.tick_params(labelsize="small")


def _gates(log: _Columns) -> "Figure":
    names = [column.removesuffix(".mean") for column in log if column.endswith(".mean")]
    figure = new_figure("the gates are", 8, 4)
    axes = figure.subplots()
    for name in names:
        steps, means = _points(log, f"{name}.mean")
        _, spreads = _points(log, f"{name}.spread")
        (line,) = axes.plot(steps, means, linewidth=1.2, label=name)
        low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
        high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
        axes.fill_between(steps, low, high, alpha=0.15, color=line.get_color())
    axes.set(title="gates: mean and spread", xlabel="step", ylim=(0, 1))
    axes.grid(alpha=0.3)
    if names:
        axes.legend(loc="best", fontsize="small")
    return figure


def _points(log: _Columns, column: str, along: str = "step") -> tuple[list[float], list[float]]:
    """Steps, or another column, and values, where the column has any."""
    pairs = [
        (step, value)
        for step, value in zip(log.get(along, ()), log.get(column, ()), strict=True)
        if step is not None and value is not None
    ]
    return [step for step, _ in pairs], [value for _, value in pairs]

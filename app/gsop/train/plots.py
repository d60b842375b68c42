"""A run's log as pictures."""

from pathlib import Path

from gsop.errors import ConfigError
from gsop.train.log import read_log


def plot_run(folder: Path) -> tuple[Path, Path]:
    """Draw ``curves.png`` (loss, accuracy, learning rate) and ``gates.png`` from the log.

    Args:
        folder: the run's.

    Returns:
        The two files. ``gates.png`` shows for each gate its mean over images and channels (or
        positions), and one standard deviation to both sides; it is empty if nothing is gated.

    Raises:
        ConfigError: if matplotlib is not installed.
        OSError: if they cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            "the curves are drawn with matplotlib, which is not installed: "
            "pip install 'gsop[train]'"
        ) from error
    log = read_log(folder)

    def points(column: str) -> tuple[list[float], list[float]]:
        pairs = [
            (step, value)
            for step, value in zip(log.get("step", []), log.get(column, []), strict=True)
            if step is not None and value is not None
        ]
        return [step for step, _ in pairs], [value for _, value in pairs]

    curves = Figure(figsize=(11, 3.4), layout="constrained")
    loss, accuracy, rate = curves.subplots(1, 3)
    loss.plot(*points("loss"), linewidth=1)
    loss.set(title="training loss", xlabel="step")
    accuracy.plot(*points("accuracy"), linewidth=1, label="training batches")
    accuracy.plot(*points("held_out_top1"), marker="o", markersize=3, label="held out")
    accuracy.set(title="accuracy", xlabel="step", ylim=(0, 1.02))
    accuracy.legend(loc="lower right")
    rate.plot(*points("learning_rate"), linewidth=1)
    rate.set(title="learning rate", xlabel="step")
    for axes in (loss, accuracy, rate):
        axes.grid(alpha=0.3)

    names = [column.removesuffix(".mean") for column in log if column.endswith(".mean")]
    gates = Figure(figsize=(8, 4), layout="constrained")
    axes = gates.subplots()
    for name in names:
        steps, means = points(f"{name}.mean")
        _, spreads = points(f"{name}.spread")
        (line,) = axes.plot(steps, means, linewidth=1.2, label=name)
        low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
        high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
        axes.fill_between(steps, low, high, alpha=0.15, color=line.get_color())
    axes.set(title="gates: mean and spread", xlabel="step", ylim=(0, 1))
    axes.grid(alpha=0.3)
    if names:
        axes.legend(loc="best", fontsize="small")

    files = folder / "curves.png", folder / "gates.png"
    for figure, file in zip((curves, gates), files, strict=True):
        figure.savefig(file, dpi=120)
    return files

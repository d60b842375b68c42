"""``gsop compare``: what the gates are worth, measured on one data set."""

import csv
import io
import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape

from gsop.commands.train import RUNS, resolve
from gsop.settings import Settings
from gsop.train.checkpoint import write_whole
from gsop.train.compare import USUAL, Cell, Row, cells, mean_and_deviation, rows, run_cells
from gsop.train.pictures import plot_comparison
from gsop.train.recipe import Recipe


def run(
    settings: Settings,
    *,
    recipe: str,
    data: Path | None,
    assignments: Sequence[str],
    folder: Path | None,
    variants: Sequence[str] | None,
    seeds: int,
    jobs: int,
    progress: bool,
) -> int:
    """Compare on a recipe that is named, as :func:`gsop.commands.train.resolve` finds it.

    Without a ``folder`` it is kept in ``runs/`` under the recipe's name. All else is as in
    :func:`compare`.
    """
    resolved = resolve(recipe, data, assignments)
    return compare(
        resolved,
        folder or RUNS / resolved.name,
        variants=variants or USUAL,
        seeds=seeds,
        jobs=jobs,
        device=settings.devices[0],
        progress=progress,
    )


def compare(
    recipe: Recipe,
    folder: Path,
    *,
    variants: Sequence[str],
    seeds: int,
    jobs: int,
    device: str,
    progress: bool,
) -> int:
    """Train every variant from every seed, and write ``table.csv``, ``table.md``, ``plot.png``.

    Args:
        recipe: that all have in common.
        folder: of the comparison; finished trainings in it are kept.
        variants: names of :data:`gsop.train.compare.VARIANTS`.
        seeds: how many, from 0.
        jobs: trainings at a time, each on one processor.
        device: where to train.
        progress: whether to say on the standard error what is finished.

    Returns:
        The exit status: 0, or 128 and the number of the signal that stopped it.

    Raises:
        SetupError: if the variants, the data or a training do not work.
    """
    todo = cells(recipe, folder, variants=variants, seeds=range(seeds))
    recipe.open_data()  # says at once if they are not there
    console = Console(stderr=True, quiet=not progress, highlight=False)

    def report(cell: Cell, done: int) -> None:
        console.print(f"{done}/{len(todo)} {escape(cell.folder.name)}")

    def stop(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        run_cells(todo, jobs=jobs, device=device, report=report)
    except KeyboardInterrupt as interrupt:
        console.print("stopped; the same command goes on with what is not finished")
        return 128 + (interrupt.args[0] if interrupt.args else signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)
    found = rows(todo)
    write_whole(folder / "table.csv", as_csv(found).encode())
    write_whole(folder / "table.md", as_markdown(found).encode())
    plot_comparison(found, folder / "plot.png", recipe.name)
    print(as_markdown(found), end="")
    return 0


def as_csv(found: Sequence[Row]) -> str:
    """A line a variant and seed."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("variant", "seed", "top1", "parameters", "multiply_adds", "seconds"))
    for row in found:
        for seed, (top1, seconds) in enumerate(zip(row.top1, row.seconds, strict=True)):
            cost = (row.parameters, row.multiply_adds, f"{seconds:.1f}")
            lines.writerow((row.variant, seed, f"{top1:.4f}", *cost))
    return text.getvalue()


def as_markdown(found: Sequence[Row]) -> str:
    """A line a variant: mean and sample deviation over the seeds."""
    lines = [
        "| variant | top-1 | parameters | multiply-adds | seconds |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in found:
        mean, deviation = mean_and_deviation(row.top1)
        seconds, _ = mean_and_deviation(row.seconds)
        spread = f" ± {deviation:.1%}" if len(row.top1) > 1 else ""  # one seed deviates from none
        lines.append(
            f"| {row.variant} | {mean:.1%}{spread} | {row.parameters / 1e3:.0f} k | "
            f"{row.multiply_adds / 1e6:.1f} M | {seconds:.0f} |"
        )
    return "\n".join(lines) + "\n"

"""What a run shows while it runs: a progress bar, rows of a CSV file, trackers."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from gsop.train.checkpoint import write_whole
from gsop.train.recipe import Recipe
from gsop.train.trackers import KEPT, TensorBoard, Tracker, open_trackers

FILE = "log.csv"


class Log:
    """The log of one run; rows after ``step`` of an earlier part of the run are dropped.

    Args:
        folder: the run's; ``None`` makes a log that keeps and shows nothing, for the processes
            beside the first.
        columns: of the rows, in their order; among them ``step``, ``images_per_second``, ``loss``
            and ``waiting``, which the bar shows.
        step: steps done already.
        total: steps of the whole run.
        recipe: the run's: its name is the bar's title, and it says who is told besides.
        progress: whether to draw it, on the standard error.

    Raises:
        ConfigError: if TensorBoard is not installed, or a tracker does not take the run.
        OSError: if the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path | None,
        columns: tuple[str, ...],
        *,
        step: int,
        total: int,
        recipe: Recipe,
        progress: bool,
    ) -> None:
        self.console = Console(stderr=True)
        self._columns = columns
        self._file: Path | None = None
        self._trackers: Sequence[Tracker] = ()
        if folder is not None:
            self._file = folder / FILE
            kept = [row for row in _read(self._file) if int(row["step"]) <= step]
            write_whole(self._file, _csv(self._columns, kept, header=True))
            others = open_trackers(folder, recipe, self.say)
            self._trackers = (TensorBoard(folder / "tensorboard", step), *others)
        self._bar = Progress(
            # All has to fit into 80 columns: the title and the bar are cut where it does not.
            TextColumn("{task.description}", table_column=Column()),
            BarColumn(bar_width=8),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[told]}left"),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            console=self.console,
            disable=not progress or folder is None,
        )
        self._task = self._bar.add_task(recipe.name, total=total, completed=step, told="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if self._file is None:
            return
        files = [self._file.with_name(name) for name in KEPT]
        for tracker in self._trackers:
            tracker.close(tuple(file for file in files if file.exists()), finished=error is None)

    def advance(self, step: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=step)

    def say(self, text: str) -> None:
        """A line for the user, above the bar; also where no bar is drawn."""
        self.console.print(f"gsop train: {text}", markup=False, highlight=False, soft_wrap=True)

    def write(self, row: Mapping[str, float | int | None]) -> None:
        """One row, by column; a column that is left out is empty.

        A disk that takes no row is told once a row, and stops nothing.
        """
        if self._file is None:
            return
        self._bar.update(
            self._task,
            completed=row["step"],
            told=_told(row),
        )
        try:
            with self._file.open("a", encoding="utf-8", newline="") as stream:
                stream.write(_csv(self._columns, [row], header=False).decode())
            for tracker in self._trackers:
                tracker.log(_tracked(row), int(row["step"] or 0))
        except OSError as error:
            self.say(f"a row of the log was not written ({error}): make room")


def _told(row: Mapping[str, float | int | None]) -> str:
    rate, loss, waiting = (row[name] or 0 for name in ("images_per_second", "loss", "waiting"))
    return f"{rate:.0f} images/s, loss {loss:.3f}, {waiting:.0%} waiting, "


def _tracked(row: Mapping[str, float | int | None]) -> dict[str, float]:
    """What trackers are told of a row."""
    return {
        ("gates/" if "." in column else "train/") + column: value
        for column, value in row.items()
        if column not in ("step", "epoch", "images", "seconds") and value is not None
    }


def read_log(folder: Path) -> dict[str, list[float | None]]:
    """The log of the run in ``folder``, by column; an empty cell is ``None``."""
    rows = _read(folder / FILE)
    columns = rows[0].keys() if rows else ()
    return {
        column: [float(row[column]) if row[column] else None for row in rows] for column in columns
    }


def _read(file: Path) -> list[dict[str, str]]:
    """The whole rows of a log that may end in the middle of one."""
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="") as stream:
        return [row for row in csv.DictReader(stream) if None not in row.values()]


def _csv(
    columns: tuple[str, ...],
    rows: list[dict[str, str]] | list[Mapping[str, float | int | None]],
    *,
    header: bool,
) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    if header:
        writer.writeheader()
    for row in rows:
        writer.writerow({k: _short(v) for k, v in row.items()})
    return text.getvalue().encode()


def _short(value: str | float | None) -> str:
    if isinstance(value, float):
        return f"{value:.7g}"
    return "" if value is None else str(value)

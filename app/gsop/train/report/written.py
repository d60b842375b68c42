"""The files of a report."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gsop.errors import ConfigError
from gsop.gates.answers import AnswerLayout
from gsop.paths import check_folder
from gsop.train.figure import new_figure
from gsop.train.report.answers import RowsFormat, check_form
from gsop.train.report.drawing import draw_confusion, draw_coverage, draw_reliability
from gsop.train.report.findings import Findings
from gsop.train.report.page import Look, report_page


def check_report(folder: Path, rows: RowsFormat) -> None:
    """Whether :func:`write_report` could write; asked before the images are answered.

    Raises:
        ConfigError: as there.
    """
    check_folder(folder)
    check_form(rows)
    new_figure("the report's pictures are", 1, 1)


def write_report(
    found: Findings, folder: Path, *, layout: AnswerLayout, look: Look, rows: RowsFormat
) -> list[str]:
    """Write a report's files into ``folder``, which is made if it is not there.

    Args:
        found: all there is to tell.
        folder: to write to.
        layout: of the model's answers.
        look: finds an image again by its name.
        rows: the form of the table with a row an image.

    Returns:
        The files' names.

    Raises:
        ConfigError: if matplotlib or pyarrow is not installed, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(found.facts(), indent=2, ensure_ascii=False)
        (folder / "report.json").write_text(text + "\n", encoding="utf-8")
        images = found.answers.write(folder, rows)
        labels = found.answers.labels
        _write_csv(
            folder / "confusion.csv",
            ("true \\ predicted", *labels),
            ((t, *row) for t, row in zip(labels, found.figures.confusion.tolist(), strict=True)),
        )
        _write_csv(
            folder / "classes.csv",
            ("label", "samples", "correct", "top1", "precision", "recall", "f1"),
            (
                (
                    c.label,
                    c.recall.of,
                    c.recall.hits,
                    f"{c.recall.share:.4f}",
                    f"{c.precision.share:.4f}" if c.precision.of else "",
                    f"{c.recall.share:.4f}",
                    f"{c.f1:.4f}",
                )
                for c in found.figures.classes
            ),
        )
        for name, draw in _PICTURES.items():
            (folder / name).write_bytes(draw(found.figures))
        page = report_page(found, layout, look)
        (folder / "report.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the report cannot be written: {error}") from error
    return ["report.html", "report.json", images.name, "classes.csv", "confusion.csv", *_PICTURES]


_PICTURES = {
    "confusion.png": draw_confusion,
    "reliability.png": draw_reliability,
    "coverage.png": draw_coverage,
}


def _write_csv(file: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(head)
        writer.writerows(rows)

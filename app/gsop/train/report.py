"""What a model's answers to labelled images are worth."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gsop.errors import ConfigError
from gsop.train.calibration import error_of
from gsop.train.figure import new_figure

MOST_NAMED = 40
"""Classes that the picture of the confusions can still name."""


@dataclass(frozen=True)
class Report:
    """What a model's answers are worth.

    Attributes:
        labels: one text a class, in the order of the network's output.
        confusion: how often class i was taken for class j, (classes, classes) int64.
        top5: share of the images whose class is among the five most probable.
        calibration_error: expected difference between confidence and accuracy, 0 to 1.
        broken: names of the images that could not be read, and count nowhere.
        seconds: that reading, decoding and computing took together.
    """

    labels: tuple[str, ...]
    confusion: npt.NDArray[np.int64]
    top5: float
    calibration_error: float
    broken: tuple[str, ...]
    seconds: float

    @property
    def samples(self) -> int:
        """Images that could be read."""
        return int(self.confusion.sum())

    @property
    def top1(self) -> float:
        """Share of the images whose class is the most probable one."""
        return float(np.trace(self.confusion) / self.samples)

    @property
    def images_per_second(self) -> float:
        """From the disk to the answer."""
        return self.samples / self.seconds

    @property
    def per_class(self) -> dict[str, tuple[int, int]]:
        """By label, of the classes that occur: images that are right, and images."""
        right, all_ = np.diagonal(self.confusion), self.confusion.sum(axis=1)
        return {
            label: (int(right[i]), int(all_[i])) for i, label in enumerate(self.labels) if all_[i]
        }

    def summary(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {
            "samples": self.samples,
            "top1": self.top1,
            "top5": self.top5,
            "calibration_error": self.calibration_error,
            "images_per_second": round(self.images_per_second, 1),
            "broken": list(self.broken),
            "per_class": {
                label: {"samples": all_, "correct": right, "top1": right / all_}
                for label, (right, all_) in self.per_class.items()
            },
        }

    def write(self, folder: Path) -> None:
        """``report.json``, ``confusion.csv``, ``confusion.png`` and ``classes.csv`` in ``folder``.

        Raises:
            ConfigError: if matplotlib is not installed, or the folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self.summary(), indent=2, ensure_ascii=False)
            (folder / "report.json").write_text(text + "\n", encoding="utf-8")
            with (folder / "confusion.csv").open("w", encoding="utf-8", newline="") as stream:
                rows = csv.writer(stream)
                rows.writerow(("true \\ predicted", *self.labels))
                rows.writerows(
                    (label, *row)
                    for label, row in zip(self.labels, self.confusion.tolist(), strict=True)
                )
            with (folder / "classes.csv").open("w", encoding="utf-8", newline="") as stream:
                rows = csv.writer(stream)
                rows.writerow(("label", "samples", "correct", "top1"))
                rows.writerows(
                    (label, all_, right, f"{right / all_:.4f}")
                    for label, (right, all_) in self.per_class.items()
                )
            self._draw(folder / "confusion.png")
        except OSError as error:
            raise ConfigError(f"the report cannot be written: {error}") from error

    def _draw(self, file: Path) -> None:
        totals = self.confusion.sum(axis=1, keepdims=True)
        shares = self.confusion / np.maximum(totals, 1)
        classes = len(self.labels)
        side = min(12.0, 3.5 + 0.3 * classes)
        figure = new_figure("the confusions are", side, side)
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set(
            xlabel="predicted",
            ylabel="true",
            title=f"{self.top1:.2%} of {self.samples} images right",
        )
        if classes <= MOST_NAMED:
            axes.set_xticks(range(classes), self.labels, rotation=90)
            axes.set_yticks(range(classes), self.labels)
            for (i, j), count in np.ndenumerate(self.confusion):
                if count and classes <= MOST_NAMED // 2:
                    colour = "white" if shares[i, j] > 0.5 else "black"
                    axes.text(j, i, str(count), ha="center", va="center", color=colour, fontsize=7)
        figure.savefig(file)


def make_report(
    labels: tuple[str, ...],
    probabilities: npt.NDArray[np.float32],
    truth: npt.NDArray[np.int64],
    *,
    broken: tuple[str, ...],
    seconds: float,
) -> Report:
    """The report on answers.

    Args:
        labels: one text a class.
        probabilities: (N, classes), N at least 1.
        truth: the classes, (N,).
        broken: names of the images that could not be read.
        seconds: that the answers took.
    """
    answers = probabilities.argmax(axis=1)
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(confusion, (truth, answers), 1)
    best = np.argpartition(-probabilities, min(5, len(labels)) - 1, axis=1)[:, :5]
    return Report(
        labels=labels,
        confusion=confusion,
        top5=float((best == truth[:, None]).any(axis=1).mean()),
        calibration_error=error_of(probabilities, truth),
        broken=broken,
        seconds=seconds,
    )

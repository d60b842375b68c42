"""A model's answers to labelled images: one row an image."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gsop.errors import ConfigError

RowsFormat = Literal["csv", "parquet"]

LEAST_PROBABILITY = 1e-12
"""What a loss takes a probability of 0 for."""


@dataclass(frozen=True)
class Answers:
    """What a model said of the images that could be read.

    Attributes:
        labels: one text a class, in the order of the network's output.
        names: of the images, (N,).
        truth: their classes, (N,) int64.
        probabilities: (N, classes) float32.
        gates: all numbers of all gates, (N, G) float32; G may be 0.
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]
    truth: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]
    gates: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.truth)

    @cached_property
    def predicted(self) -> npt.NDArray[np.int64]:
        """The most probable class of each, (N,)."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @cached_property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether that is the true one, (N,)."""
        return np.asarray(self.predicted == self.truth)

    @cached_property
    def confidence(self) -> npt.NDArray[np.float32]:
        """Its probability, (N,)."""
        return np.asarray(self.probabilities.max(axis=1))

    @cached_property
    def of_truth(self) -> npt.NDArray[np.float32]:
        """The true class's probability, (N,)."""
        return np.asarray(self.probabilities[np.arange(len(self)), self.truth])

    @cached_property
    def loss(self) -> npt.NDArray[np.float64]:
        """Cross-entropy of each, (N,)."""
        return -np.log(np.maximum(self.of_truth.astype(np.float64), LEAST_PROBABILITY))

    @cached_property
    def margin(self) -> npt.NDArray[np.float32]:
        """By how much the true class is ahead of the best other one, -1 to 1, (N,)."""
        others = self.probabilities.copy()
        others[np.arange(len(self)), self.truth] = -np.inf
        return np.asarray(self.of_truth - np.maximum(others.max(axis=1), 0))

    def columns(self) -> dict[str, Sequence[Any]]:
        """All there is of each image but its gates, by column."""
        columns: dict[str, Sequence[Any]] = {
            "file": list(self.names),
            "truth": [self.labels[c] for c in self.truth],
            "prediction": [self.labels[c] for c in self.predicted],
            "right": self.right.tolist(),
            "confidence": self.confidence.tolist(),
            "loss": self.loss.tolist(),
            "margin": self.margin.tolist(),
        }
        for number, label in enumerate(self.labels):
            columns[f"p({label})"] = self.probabilities[:, number].tolist()
        return columns

    def write(self, folder: Path, form: RowsFormat) -> Path:
        """``images.csv`` or ``images.parquet`` in ``folder``: a row an image.

        Raises:
            ConfigError: if pyarrow, which Parquet needs, is not installed.
            OSError: if it cannot be written.
        """
        file = folder / f"images.{form}"
        check_form(form)
        if form == "parquet":
            import pyarrow
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.table(self.columns()), file)
            return file
        with file.open("w", encoding="utf-8", newline="") as stream:
            rows = csv.writer(stream, lineterminator="\n")
            columns = self.columns()
            rows.writerow(columns)
            rows.writerows(_texts(columns))
        return file


def check_form(form: RowsFormat) -> None:
    """Whether rows of this form can be written.

    Raises:
        ConfigError: if pyarrow, which Parquet needs, is not installed.
    """
    if form == "parquet" and find_spec("pyarrow") is None:
        raise ConfigError(
            "Parquet is written with pyarrow, which is not installed: pip install '.[frames]', "
            "or choose --rows csv"
        )


def _texts(columns: dict[str, Sequence[Any]]) -> Iterator[list[str]]:
    for row in zip(*columns.values(), strict=True):
        yield [f"{value:.6g}" if type(value) is float else str(value) for value in row]

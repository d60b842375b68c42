"""What answers come to: by class, by pair of classes, by confidence."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gsop.train.calibration import BINS, bins_of, error_of
from gsop.train.report.answers import Answers
from gsop.train.report.rates import Rate, f1_interval

PAIRS_NAMED = 20
"""Most confused pairs that a report names."""


class ClassFigures(NamedTuple):
    """How one class fares.

    Attributes:
        label: its text.
        recall: of its images, those that are named so.
        precision: of the images that are named so, those that are its own.
        f1: the harmonic mean of both, 0 to 1.
        f1_interval: at 95 %.
    """

    label: str
    recall: Rate
    precision: Rate
    f1: float
    f1_interval: tuple[float, float]


class Pair(NamedTuple):
    """Images of one class that are taken for another."""

    truth: str
    predicted: str
    images: int
    of: int


class Bin(NamedTuple):
    """Images whose answers are about as confident.

    Attributes:
        low, high: of the confidence.
        confidence: their mean.
        right: of them.
    """

    low: float
    high: float
    confidence: float
    right: Rate


_TOP = 5


@dataclass(frozen=True)
class Figures:
    """What answers come to.

    Attributes:
        answers: one row an image.
    """

    answers: Answers

    @cached_property
    def confusion(self) -> npt.NDArray[np.int64]:
        """How often class i was taken for class j, (classes, classes)."""
        classes = len(self.answers.labels)
        counts = np.zeros((classes, classes), np.int64)
        np.add.at(counts, (self.answers.truth, self.answers.predicted), 1)
        return counts

    @property
    def top1(self) -> Rate:
        """Images whose class is the most probable one."""
        return Rate(int(self.answers.right.sum()), len(self.answers))

    @cached_property
    def top5(self) -> Rate:
        """Images whose class is among the five most probable."""
        probabilities = self.answers.probabilities
        most = min(_TOP, probabilities.shape[1])
        best = np.argpartition(-probabilities, most - 1, axis=1)[:, :_TOP]
        return Rate(int((best == self.answers.truth[:, None]).any(axis=1).sum()), len(best))

    def told_top5(self) -> list[tuple[str, str]]:
        """The row of a table; none where five classes or fewer would make it 100 % for anything."""
        return [("top-5", str(self.top5))] if len(self.answers.labels) > _TOP else []

    @property
    def loss(self) -> float:
        """Mean cross-entropy."""
        return float(self.answers.loss.mean())

    @cached_property
    def calibration_error(self) -> float:
        """Expected difference between confidence and accuracy, 0 to 1."""
        return error_of(self.answers.probabilities, self.answers.truth)

    @cached_property
    def classes(self) -> list[ClassFigures]:
        """Of the classes that occur, in their order."""
        own, named = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        found = []
        for number, label in enumerate(self.answers.labels):
            true, images, taken = (
                int(c[number]) for c in (np.diagonal(self.confusion), own, named)
            )
            if not images:
                continue
            found.append(
                ClassFigures(
                    label=label,
                    recall=Rate(true, images),
                    precision=Rate(true, taken),
                    f1=2 * true / (images + taken),
                    f1_interval=f1_interval(true, images - true, taken - true),
                )
            )
        return found

    @cached_property
    def pairs(self) -> list[Pair]:
        """The most confused pairs, those with the most images first."""
        labels, counts = self.answers.labels, self.confusion.copy()
        own = counts.sum(axis=1)
        np.fill_diagonal(counts, 0)
        order = np.argsort(-counts, axis=None, kind="stable")[:PAIRS_NAMED]
        places = zip(*np.unravel_index(order, counts.shape), strict=True)
        return [
            Pair(labels[i], labels[j], int(counts[i, j]), int(own[i]))
            for i, j in places
            if counts[i, j]
        ]

    @cached_property
    def bins(self) -> list[Bin]:
        """The answers by confidence, the empty bins left out."""
        bins = bins_of(self.answers.confidence)
        found = []
        for number in np.unique(bins).tolist():
            inside = bins == number
            found.append(
                Bin(
                    low=number / BINS,
                    high=(number + 1) / BINS,
                    confidence=float(self.answers.confidence[inside].mean()),
                    right=Rate(int(self.answers.right[inside].sum()), int(inside.sum())),
                )
            )
        return found

    @cached_property
    def coverage(self) -> list[tuple[float, float, float]]:
        """If only the surest are answered: coverage, the least confidence, accuracy; 20 steps."""
        order = np.argsort(-self.answers.confidence, kind="stable")
        right = self.answers.right[order].cumsum()
        steps = sorted({max(1, round(len(order) * step / 20)) for step in range(1, 21)})
        return [
            (
                count / len(order),
                float(self.answers.confidence[order[count - 1]]),
                float(right[count - 1] / count),
            )
            for count in steps
        ]

    def facts(self) -> dict[str, Any]:
        """All of it as JSON values; the confusions are a file of their own."""
        return {
            "samples": len(self.answers),
            "top1": self.top1.share,
            "top1_interval": list(self.top1.interval),
            **(
                {"top5": self.top5.share, "top5_interval": list(self.top5.interval)}
                if self.told_top5()
                else {}
            ),
            "loss": self.loss,
            "calibration_error": self.calibration_error,
            "macro_f1": float(np.mean([c.f1 for c in self.classes])),
            "balanced_accuracy": float(np.mean([c.recall.share for c in self.classes])),
            "per_class": {
                c.label: {
                    "samples": c.recall.of,
                    "correct": c.recall.hits,
                    "top1": c.recall.share,
                    "recall": c.recall.facts(),
                    "precision": c.precision.facts(),
                    "f1": {"share": c.f1, "low": c.f1_interval[0], "high": c.f1_interval[1]},
                }
                for c in self.classes
            },
            "confused": [pair._asdict() for pair in self.pairs],
            "reliability": [
                {"low": b.low, "high": b.high, "confidence": b.confidence, "right": b.right.facts()}
                for b in self.bins
            ],
            "coverage": [
                {"coverage": share, "confidence": sure, "top1": right}
                for share, sure, right in self.coverage
            ],
        }

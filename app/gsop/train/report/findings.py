"""All that is found on a model's answers, before it is written anywhere."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from gsop.images import Pixels
from gsop.train.report.alike import Thumbnails, alike_across, alike_within, thumbnails
from gsop.train.report.answers import Answers
from gsop.train.report.figures import Figures
from gsop.train.report.rates import Paired
from gsop.train.report.suspects import Suspect, suspects


class Twins(NamedTuple):
    """Two images that look alike.

    Attributes:
        first, second: their names.
        correlation: of their pixels, up to 1.
        same_label: whether both are labelled as the same class.
    """

    first: str
    second: str
    correlation: float
    same_label: bool


class Others(NamedTuple):
    """Images that the model was trained on.

    Attributes:
        names: of them.
        truth: their classes.
        little: what they look like.
    """

    names: Sequence[str]
    truth: Sequence[int]
    little: Thumbnails

    @classmethod
    def of(cls, images: Iterable[tuple[str, int, Pixels | None]]) -> "Others":
        """From names, classes and pixels, each looked at once."""
        names: list[str] = []
        truth: list[int] = []

        def pixels() -> Iterable[Pixels | None]:
            for name, label, image in images:
                names.append(name)
                truth.append(label)
                yield image

        little = thumbnails(pixels())
        return cls(names, truth, little)


@dataclass(frozen=True)
class Findings:
    """What there is to tell of a model's answers.

    Attributes:
        answers: one row an image.
        broken: names of the images that could not be read, and count nowhere.
        about: model, data, command and times, as JSON values.
        little: what the images look like, in the answers' order; ``None`` if nobody looked.
        trained_on: the images of the training; ``None`` if they are not at hand.
        beside: another version's name, and how both do on the same images.
    """

    answers: Answers
    broken: tuple[str, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)
    little: Thumbnails | None = None
    trained_on: Others | None = None
    beside: tuple[str, Paired] | None = None

    @cached_property
    def figures(self) -> Figures:
        """What the answers come to."""
        return Figures(self.answers)

    @cached_property
    def suspects(self) -> list[Suspect]:
        """Labels in doubt, the surest first."""
        return suspects(self.answers)

    @cached_property
    def worst(self) -> list[int]:
        """Numbers of the images, those with the largest loss first."""
        return [int(number) for number in np.argsort(-self.answers.loss, kind="stable")]

    @cached_property
    def duplicates(self) -> list[Twins]:
        """Images of the evaluation that look alike."""
        if self.little is None:
            return []
        names, truth = self.answers.names, self.answers.truth
        return [
            Twins(names[a], names[b], sure, bool(truth[a] == truth[b]))
            for a, b, sure in alike_within(self.little)
        ]

    @cached_property
    def leaks(self) -> list[Twins]:
        """Images of the evaluation (first) that look like one of the training (second)."""
        if self.little is None or self.trained_on is None:
            return []
        names, truth, others = self.answers.names, self.answers.truth, self.trained_on
        return [
            Twins(names[a], others.names[b], sure, int(truth[a]) == others.truth[b])
            for a, b, sure in alike_across(self.little, others.little)
        ]

    def facts(self) -> dict[str, Any]:
        """All of it as JSON values, figures first."""
        names, labels = self.answers.names, self.answers.labels
        return {
            **self.figures.facts(),
            "broken": list(self.broken),
            "suspects": [
                {
                    "file": names[s.number],
                    "label": labels[s.given],
                    "likely": labels[s.likely],
                    "gap": s.gap,
                }
                for s in self.suspects
            ],
            "duplicates": None if self.little is None else [t._asdict() for t in self.duplicates],
            "leaks": None if self.trained_on is None else [t._asdict() for t in self.leaks],
            "compared": None
            if self.beside is None
            else {"with": self.beside[0], **self.beside[1].facts()},
            **self.about,
        }

"""How familiar an answer's gates are: are they like those of images of that class that are known?

The known images are those that a version was measured on. Of an answer, the distance of its gates
to the nearest known images of the class that it names is taken, in the directions in which gates
of known images differ; the *familiarity* is the share of known images of that class that lie at
least as far from the others. Among known images it is spread evenly from 0 to 1; a photograph of
something else is near 0, however sure the network is of its class.

That the nearest images are asked, rather than the class's mean and covariance, is what tells other
images from known ones where a class has several looks, such as ink on paper and chalk on slate
(docs/drift.md compares the distances; cf. Sun et al., "Out-of-Distribution Detection with Deep
Nearest Neighbors", ICML 2022).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from gsop.gates.population import LEAST_SCALE, Classes, Doubles, Floats, sums_by

DIRECTIONS = 64
"""In which gates are compared, at most; and half as many as there are images."""

EXEMPLARS, OF_A_CLASS = 16384, 200
"""Images that are kept to compare with, at most: of all classes, and of one."""

KNOWN = 4096
"""Distances of known images that are kept, at most."""

NEIGHBOUR = 2
"""Which of the nearest images the distance is taken to: not the first, for one may be an oddity."""

FOLDS = 4
"""Parts of the images of which each is measured by what the others know."""

RIDGE = 0.02
"""Variance that every direction has at least, in that of the first: small ones are noise."""

PRIOR = 5.0
"""Images of a class that would say as much of its typical distance as all classes together."""

_ROUNDS, _SPARE = 6, 10  # of the search for directions


@dataclass(frozen=True)
class Neighbours:
    """Known images to compare with.

    Attributes:
        projection: ``(G, D)``, from logits to coordinates in which distances are taken.
        origin: ``(D,)``, the coordinates' middle.
        exemplars: ``(E, D)`` float16, of the images that are kept.
        classes: ``(E,)``, ascending: the class of each.
        typical: ``(C,)``, the typical distance of a class's images.
        known: ``(K,)``, ascending: distances of known images, in their class's typical one.
    """

    projection: Floats
    origin: Floats
    exemplars: npt.NDArray[np.float16]
    classes: npt.NDArray[np.int64]
    typical: Floats
    known: Floats

    @classmethod
    def measure(cls, logits: Floats, classes: Classes, count: int, groups: Classes) -> Self:
        """What N images have in common.

        Args:
            logits: ``(N, G)``, as :func:`~gsop.gates.population.as_logits` makes them.
            classes: ``(N,)``, the predicted ones.
            count: of the network's classes, C.
            groups: ``(N,)``: images with the same number are alike, and do not know each other.
        """
        distances = np.zeros(len(logits), np.float32)
        for fold in _folds(groups):
            others = cls._of(logits[~fold], classes[~fold], count)
            distances[fold] = others.distances(logits[fold], classes[fold])
        near = np.isfinite(distances)
        distances, classes_near = distances[near], classes[near]
        typical = _typical(distances, classes_near, count)
        known = np.sort(distances / typical[classes_near])
        if len(known) > KNOWN:
            known = known[np.linspace(0, len(known) - 1, KNOWN).round().astype(np.int64)]
        return replace(cls._of(logits, classes, count), typical=typical, known=known)

    @classmethod
    def _of(cls, logits: Floats, classes: Classes, count: int) -> Self:
        """The neighbours without what distances are usual."""
        projection = _directions(logits, classes, count)
        coordinates = logits @ projection
        origin = coordinates.mean(axis=0)
        kept = _kept(classes, count)
        exemplars = (coordinates[kept] - origin).astype(np.float16)
        typical, known = np.ones(count, np.float32), np.zeros(1, np.float32)
        return cls(projection, origin, exemplars, classes[kept].astype(np.int64), typical, known)

    @property
    def is_sound(self) -> bool:
        """Whether what came from elsewhere can be what :meth:`measure` made."""
        count = len(self.typical)
        return bool(
            len(self.known)
            and (np.diff(self.known) >= 0).all()
            and (np.diff(self.classes) >= 0).all()
            and ((self.classes >= 0) & (self.classes < count)).all()
            and (self.typical > 0).all()
        )

    @cached_property
    def _starts(self) -> list[int]:
        """Where the exemplars of each class begin, and where the last ones end."""
        starts = np.searchsorted(self.classes, np.arange(len(self.typical) + 1))
        return [int(start) for start in starts]

    def distances(self, logits: Floats, classes: Classes) -> Floats:
        """``(N,)``: how far answers are from the nearest known images of the class they name.

        Infinite where no known image was answered with that class.
        """
        coordinates = logits @ self.projection - self.origin
        found = np.full(len(logits), np.inf, np.float32)
        for class_id in np.unique(classes).tolist():
            among = self.exemplars[self._starts[class_id] : self._starts[class_id + 1]]
            if len(among):
                rows = classes == class_id
                found[rows] = _nearest(coordinates[rows], among.astype(np.float32))
        return found

    def familiarity(self, logits: Floats, classes: Classes) -> Doubles:
        """``(N,)``: of the known images, the share that is at least as far out; 0 to 1.

        Args:
            logits: ``(N, G)``, as :func:`~gsop.gates.population.as_logits` makes them.
            classes: ``(N,)``, the predicted ones.
        """
        distances = self.distances(logits, classes) / self.typical[classes]
        nearer = np.searchsorted(self.known, distances, side="left")
        familiarity: Doubles = 1 - nearer / len(self.known)
        return familiarity


def _nearest(coordinates: Floats, among: Floats) -> Floats:
    """``(N,)``: the distance of each to its nearest but one, or to the only one there is."""
    squares = np.square(coordinates).sum(axis=1)[:, None] + np.square(among).sum(axis=1)
    squares -= 2 * coordinates @ among.T
    place = min(NEIGHBOUR, len(among)) - 1
    nearest = np.partition(squares, place, axis=1)[:, place]
    distances: Floats = np.sqrt(np.maximum(nearest, 0))
    return distances


def _directions(logits: Floats, classes: Classes, count: int) -> Floats:
    """``(G, D)``: the main directions within the classes, each scaled to a deviation of 1."""
    counts = np.maximum(np.bincount(classes, minlength=count), 1)
    means = (sums_by(logits, classes, count) / counts[:, None]).astype(np.float32)
    residuals = logits - means[classes]
    deviation = np.sqrt(np.square(residuals).mean(axis=0, dtype=np.float64))
    scale = np.maximum(deviation, LEAST_SCALE * np.median(deviation) or 1.0).astype(np.float32)
    residuals /= scale
    wanted = max(1, min(DIRECTIONS, len(logits) // 2, logits.shape[1]))
    spread = min(wanted + _SPARE, logits.shape[1])
    # Subspace iteration (Halko et al., 2011): the covariance of thousands of gates is never made.
    basis = np.random.default_rng(0).standard_normal((logits.shape[1], spread), np.float32)
    for _ in range(_ROUNDS):
        basis, _ = np.linalg.qr(residuals.T @ (residuals @ basis))
    _, values, turn = np.linalg.svd(residuals @ basis, full_matrices=False)
    variances = np.square(values[:wanted])
    kept = basis @ turn[:wanted].T / np.sqrt(variances + RIDGE * variances[0])
    projection: Floats = kept * np.float32(np.sqrt(len(logits))) / scale[:, None]
    return projection


def _kept(classes: Classes, count: int) -> npt.NDArray[np.int64]:
    """Which images are kept as exemplars: of each class as many as may be, by class."""
    most = max(1, min(OF_A_CLASS, EXEMPLARS // count))
    shuffled = np.random.default_rng(0).permutation(len(classes))
    chosen = [shuffled[classes[shuffled] == class_id][:most] for class_id in range(count)]
    return np.concatenate(chosen)


def _folds(groups: Classes) -> Iterator[npt.NDArray[np.bool_]]:
    """Each part of the images ``(N,)``; groups stay together."""
    _, numbers = np.unique(groups, return_inverse=True)
    parts = np.random.default_rng(0).permutation(int(numbers.max()) + 1) % FOLDS
    for fold in range(FOLDS):
        chosen = parts[numbers] == fold
        if chosen.any() and not chosen.all():
            yield chosen


def _typical(distances: Floats, classes: Classes, count: int) -> Floats:
    """``(C,)``: the median distance of each class, drawn towards that of all."""
    overall = float(np.median(distances))
    typical = np.full(count, overall)
    for class_id in np.unique(classes).tolist():
        own = distances[classes == class_id]
        typical[class_id] = (np.median(own) * len(own) + overall * PRIOR) / (len(own) + PRIOR)
    return np.asarray(np.maximum(typical, 1e-6), np.float32)

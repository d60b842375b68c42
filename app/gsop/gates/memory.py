"""What the engine remembers of the gates: the newest records and running statistics.

All gates of one prediction lie one after the other in a single vector, in the order of
``Manifest.gates``; :func:`split_gates` cuts it up again.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

from gsop.model.config import GateSpec

Vector = npt.NDArray[np.float64]

BLOCK = 64
"""Records that are counted together."""


def split_gates(
    specs: Sequence[GateSpec], vector: npt.NDArray[np.floating]
) -> Iterator[tuple[GateSpec, npt.NDArray[np.floating]]]:
    """Each gate with its part of ``vector`` along the last axis, in the gate's own shape."""
    at = 0
    for spec in specs:
        part = vector[..., at : at + spec.size]
        yield spec, part.reshape(*vector.shape[:-1], *spec.shape)
        at += spec.size


@dataclass
class GateStatistics:
    """Count, mean, deviation and extremes of each element of the gates.

    Plain sums suffice: gates lie in (0, 1), so nothing cancels, and two engines' statistics add up
    to what one engine would have counted.

    Attributes:
        samples: predictions counted.
        sums: ``(4, G)`` float64: sum, sum of squares, least, greatest of each element.
    """

    samples: int
    sums: Vector

    @classmethod
    def empty(cls, size: int) -> Self:
        """No sample yet of gates with ``size`` numbers."""
        sums = np.zeros((4, size))
        sums[2], sums[3] = np.inf, -np.inf
        return cls(0, sums)

    def add(self, gates: npt.NDArray[np.float32]) -> None:
        """Count the gates ``(N, G)`` of N predictions."""
        values = gates.astype(np.float64)
        self.samples += len(values)
        self.sums[0] += values.sum(axis=0)
        self.sums[1] += np.square(values).sum(axis=0)
        np.minimum(self.sums[2], values.min(axis=0), out=self.sums[2])
        np.maximum(self.sums[3], values.max(axis=0), out=self.sums[3])

    def merge(self, other: Self) -> None:
        """Count what another engine counted."""
        self.samples += other.samples
        self.sums[:2] += other.sums[:2]
        np.minimum(self.sums[2], other.sums[2], out=self.sums[2])
        np.maximum(self.sums[3], other.sums[3], out=self.sums[3])

    @property
    def mean(self) -> Vector:
        """``(G,)``; at least one sample is needed."""
        mean: Vector = self.sums[0] / self.samples
        return mean

    @property
    def std(self) -> Vector:
        """Standard deviation of the population, ``(G,)``."""
        variance = self.sums[1] / self.samples - np.square(self.mean)
        std: Vector = np.sqrt(np.maximum(variance, 0))
        return std

    @property
    def low(self) -> Vector:
        """Least value seen, ``(G,)``."""
        low: Vector = self.sums[2]
        return low

    @property
    def high(self) -> Vector:
        """Greatest value seen, ``(G,)``."""
        high: Vector = self.sums[3]
        return high


@dataclass
class Record:
    """One earlier prediction.

    Attributes:
        id: its public id.
        time: Unix time at which it was answered, in seconds.
        top_k: how many predictions its answer listed.
        values: ``(classes + G,)``: probabilities, then gates.
    """

    id: str
    time: float
    top_k: int
    values: npt.NDArray[np.floating]


@dataclass
class GateMemory:
    """Everything that an engine remembers of one model.

    Records are kept at once; the statistics catch up with them a block at a time, or when they are
    asked for, because the cost of counting is that of the calls, not of the numbers.

    Attributes:
        classes: number of classes.
        size: numbers in the gates of one prediction.
        capacity: records kept; the next one displaces the oldest.
        since: Unix time from which on the statistics count.
    """

    classes: int
    size: int
    capacity: int
    since: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self._total = GateStatistics.empty(self.size)
        self._by_class: dict[int, GateStatistics] = {}
        self._by_owner: dict[int, GateStatistics] = {}
        self._values = np.zeros((self.capacity, self.classes + self.size), np.float32)
        self._times = np.zeros(self.capacity)
        self._top_k = np.zeros(self.capacity, np.int64)
        self._owners = np.zeros(self.capacity, np.uint16)
        self._ids: list[str | None] = [None] * self.capacity
        self._places: dict[str, int] = {}
        self._next = 0
        self._counted = 0
        self._block = min(BLOCK, self.capacity)

    def add(
        self,
        ids: Sequence[str],
        top_k: Sequence[int],
        values: npt.NDArray[np.float32],
        owners: Sequence[int] = (),
    ) -> None:
        """Remember N predictions: ``values`` is ``(N, classes + G)``.

        ``owners`` says whose they are; nobody's if it is empty.
        """
        owners = owners or [0] * len(ids)
        now = time.time()
        for start in range(0, len(ids), self._block):
            part = slice(start, start + self._block)
            if self._next + len(ids[part]) - self._counted > self._block:
                self._count()
            places = np.arange(self._next, self._next + len(ids[part])) % self.capacity
            self._values[places] = values[part]
            self._times[places] = now
            self._top_k[places] = top_k[part]
            self._owners[places] = owners[part]
            for place, id_ in zip(places.tolist(), ids[part], strict=True):
                displaced = self._ids[place]
                if displaced is not None:
                    del self._places[displaced]
                self._ids[place] = id_
                self._places[id_] = place
            self._next += len(places)

    def _count(self) -> None:
        """Bring the statistics up to date with the records."""
        places = np.arange(self._counted, self._next) % self.capacity
        self._counted = self._next
        if not len(places):
            return
        gates, owners = self._values[places, self.classes :], self._owners[places]
        winners = self._values[places, : self.classes].argmax(axis=1)
        self._total.add(gates)
        for groups, keys in ((self._by_class, winners), (self._by_owner, owners)):
            for key in np.unique(keys).tolist():
                statistics = groups.setdefault(key, GateStatistics.empty(self.size))
                statistics.add(gates[keys == key])

    def statistics(self, class_id: int | None = None, owner: int | None = None) -> GateStatistics:
        """The statistics of all predictions, of those of a first class, or of those of an owner.

        An owner's classes are not told apart: they would multiply the memory.
        """
        self._count()
        if owner is not None:
            return self._by_owner.get(owner) or GateStatistics.empty(self.size)
        if class_id is None:
            return self._total
        return self._by_class.get(class_id) or GateStatistics.empty(self.size)

    def record(self, id_: str, owner: int | None = None) -> Record | None:
        """The prediction with that id, if it is still kept (and ``owner``'s, if one is given)."""
        place = self._places.get(id_)
        if place is None or owner not in (None, int(self._owners[place])):
            return None
        return self._record(place)

    def recent(self, count: int, owner: int | None = None) -> list[Record]:
        """The newest ``count`` records, of all or of ``owner``, newest first."""
        first = max(0, self._next - self.capacity)
        places = np.arange(self._next - 1, first - 1, -1) % self.capacity
        if owner is not None:
            places = places[self._owners[places] == owner]
        return [self._record(place) for place in places[:count].tolist()]

    def _record(self, place: int) -> Record:
        id_ = self._ids[place]
        assert id_ is not None, "only places that were written are read"  # noqa: S101
        return Record(id_, float(self._times[place]), int(self._top_k[place]), self._values[place])

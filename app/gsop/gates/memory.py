"""What the engine remembers of its answers: the newest records and running statistics."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gsop.gates.answers import AnswerLayout
from gsop.gates.drift import DriftWatch
from gsop.gates.statistics import GateStatistics
from gsop.gates.tally import ClassTally, Groups, HostTally

BLOCK = 64
"""Records that are counted together."""

_DRIFT = "drift."  # begins the names of its arrays in a state


@dataclass
class Record:
    """One earlier prediction.

    Attributes:
        id: its public id.
        time: Unix time at which it was answered, in seconds.
        top_k: how many predictions its answer listed.
        values: the answer, as its layout has it.
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
        layout: of the answers.
        capacity: records kept; the next one displaces the oldest.
        since: Unix time from which on the statistics count.
        tally: of the classes; in the host's memory, if none is given.
        drift: sees what the statistics see, if it is watched.
    """

    layout: AnswerLayout
    capacity: int
    since: float = field(default_factory=time.time)
    tally: ClassTally | None = None
    drift: DriftWatch | None = None

    def __post_init__(self) -> None:
        self._by_class: ClassTally = self.tally or HostTally(self.layout.gate_size)
        self._by_caller = Groups(self.layout.gate_size)
        self._values = np.zeros((self.capacity, self.layout.width), np.float32)
        self._times = np.zeros(self.capacity)
        self._top_k = np.zeros(self.capacity, np.int64)
        self._callers = np.zeros(self.capacity, np.uint16)
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
        callers: Sequence[int] = (),
    ) -> None:
        """Remember N answers, ``values`` ``(N, width)``; nobody's if ``callers`` is empty."""
        callers = callers or [0] * len(ids)
        now = time.time()
        for start in range(0, len(ids), self._block):
            part = slice(start, start + self._block)
            if self._next + len(ids[part]) - self._counted > self._block:
                self.catch_up()
            places = np.arange(self._next, self._next + len(ids[part])) % self.capacity
            self._values[places] = values[part]
            self._times[places] = now
            self._top_k[places] = top_k[part]
            self._callers[places] = callers[part]
            for place, id_ in zip(places.tolist(), ids[part], strict=True):
                displaced = self._ids[place]
                if displaced is not None:
                    del self._places[displaced]
                self._ids[place] = id_
                self._places[id_] = place
            self._next += len(places)

    def catch_up(self) -> None:
        """Bring the statistics, and what is watched of drift, up to date with the records."""
        places = np.arange(self._counted, self._next) % self.capacity
        self._counted = self._next
        if not len(places):
            return
        values, callers = self._values[places], self._callers[places]
        gates, winners = self.layout.gate_values(values), self.layout.winners(values)
        if self.drift is not None:
            self.drift.add(values, float(self._times[places[-1]]))
        self._by_class.add(gates, winners)
        self._by_caller.count(gates, callers)

    def _nothing(self) -> GateStatistics:
        return GateStatistics.empty(self.layout.gate_size)

    def statistics(self, class_id: int | None = None, caller: int | None = None) -> GateStatistics:
        """The statistics of all predictions, of those of a first class, or of those of an caller.

        An caller's classes are not told apart: they would multiply the memory.
        """
        self.catch_up()
        if caller is not None:
            return self._by_caller.get(caller) or self._nothing()
        if class_id is None:
            return self._by_class.total()
        return self._by_class.of(class_id) or self._nothing()

    def record(self, id_: str, caller: int | None = None) -> Record | None:
        """The prediction with that id, if it is still kept (and ``caller``'s, if one is given)."""
        place = self._places.get(id_)
        if place is None or caller not in (None, int(self._callers[place])):
            return None
        return self._record(place)

    def after(self, number: int, most: int) -> tuple[int, list[tuple[Record, int]]]:
        """What was remembered after the first ``number``, the newest ``most`` of it.

        Returns:
            How many there have been, and the records, oldest first, each with its caller.
        """
        new = self._next - number if number <= self._next else self._next
        places = self._kept()[::-1][: min(new, most)][::-1]
        found = [(self._record(p), int(self._callers[p])) for p in places.tolist()]
        return self._next, found

    def recent(
        self, count: int, caller: int | None = None, class_id: int | None = None
    ) -> list[Record]:
        """The newest ``count`` records, newest first: of ``caller``, of a class, or of all."""
        places = self._kept()[::-1]
        if caller is not None:
            places = places[self._callers[places] == caller]
        if class_id is not None:
            places = places[self.layout.winners(self._values[places]) == class_id]
        return [self._record(place) for place in places[:count].tolist()]

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """All that is remembered, oldest record first: values for JSON, and arrays."""
        self.catch_up()
        places = self._kept()
        classes, callers = list(self._by_class.classes()), sorted(self._by_caller)
        total = self._by_class.total()
        groups = [self._by_class.of(key) or self._nothing() for key in classes]
        groups += [self._by_caller[key] for key in callers]
        meta = {
            "since": self.since,
            "samples": [total.samples, *(group.samples for group in groups)],
            "classes": classes,
            "callers": callers,
        }
        arrays: dict[str, npt.NDArray[Any]] = {
            "ids": np.array([self._ids[place] for place in places.tolist()], "S32"),
            "values": self._values[places],
            "times": self._times[places],
            "top_k": self._top_k[places],
            "owners": self._callers[places],
            "sums": np.stack([total.sums, *(group.sums for group in groups)]),
        }
        if self.drift is not None:
            meta["drift"], watched = self.drift.state()
            arrays |= {f"{_DRIFT}{name}": array for name, array in watched.items()}
        return meta, arrays

    def take_over(self, meta: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Remember what a predecessor did, as :meth:`state` told it, before what is here."""
        _, own = self.state()
        names = ("ids", "values", "times", "top_k", "owners")
        ids, values, times, top_k, owners = (
            np.concatenate([arrays[name], own[name]])[-self.capacity :] for name in names
        )
        count = len(ids)
        self._values[:count], self._times[:count] = values, times
        self._top_k[:count], self._callers[:count] = top_k, owners
        self._ids[:count] = [bytes(id_).decode() for id_ in ids]
        self._places = {id_: place for place, id_ in enumerate(self._ids[:count]) if id_}
        self._next = self._counted = count
        self.since = min(self.since, meta["since"])
        found = [
            GateStatistics(samples, sums)
            for samples, sums in zip(meta["samples"], arrays["sums"], strict=True)
        ]
        counted = iter(found[1:])  # before them is the total, which the classes make up
        for key in meta["classes"]:
            self._by_class.merge(key, next(counted))
        for key in meta["callers"]:
            self._by_caller[key].merge(next(counted))
        if self.drift is not None and "drift" in meta:
            watched = {n.removeprefix(_DRIFT): a for n, a in arrays.items() if n.startswith(_DRIFT)}
            self.drift.take_over(meta["drift"], watched)

    def _kept(self) -> npt.NDArray[np.intp]:
        """Where the records lie, oldest first."""
        return np.arange(max(0, self._next - self.capacity), self._next) % self.capacity

    def _record(self, place: int) -> Record:
        id_ = self._ids[place]
        assert id_ is not None, "only places that were written are read"  # noqa: S101
        return Record(id_, float(self._times[place]), int(self._top_k[place]), self._values[place])

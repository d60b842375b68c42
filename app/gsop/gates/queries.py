"""Questions that a front asks an engine about the gates: how they are put, how they are answered.

Each question is one class with both of its sides, so that they cannot drift apart. Answers are JSON
and one array of float64.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from gsop.gates.drift_query import DriftQuery, Reply
from gsop.gates.memory import GateMemory, Record
from gsop.gates.statistics import GateStatistics

RECENT = 20
"""Newest predictions that ``GET /attention`` lists."""


@dataclass(frozen=True)
class StatisticsQuery:
    """The gates' statistics of a model, over all predictions, those of a class or of an caller."""

    model: int
    class_id: int | None = None
    caller: int | None = None

    def answer(self, memories: Sequence[GateMemory]) -> Reply:
        """The engine's side."""
        memory = memories[self.model]
        statistics = memory.statistics(self.class_id, self.caller)
        recent = [
            {
                "id": record.id,
                "time": record.time,
                "class_id": int(memory.layout.winners(record.values)),
                "probability": float(memory.layout.probabilities(record.values).max()),
            }
            for record in memory.recent(RECENT, self.caller, self.class_id)
        ]
        meta = {"samples": statistics.samples, "since": memory.since, "recent": recent}
        return meta, statistics.sums

    @staticmethod
    def read(meta: dict[str, Any], values: npt.NDArray[np.float64]) -> GateStatistics:
        """The front's side."""
        return GateStatistics(meta["samples"], np.array(values))


@dataclass(frozen=True)
class RecordQuery:
    """One earlier prediction, of whichever model; of ``caller`` only, if that is given."""

    id: str
    caller: int | None = None

    def answer(self, memories: Sequence[GateMemory]) -> Reply:
        """The engine's side."""
        for model, memory in enumerate(memories):
            if record := memory.record(self.id, self.caller):
                meta = {"model": model, "time": record.time, "top_k": record.top_k}
                return meta, record.values.astype(np.float64)
        return {}, np.zeros(0)

    def read(
        self, meta: dict[str, Any], values: npt.NDArray[np.float64]
    ) -> tuple[int, Record] | None:
        """The front's side: the model's index and the record, or ``None``."""
        if not meta:
            return None
        record = Record(self.id, meta["time"], meta["top_k"], values.astype(np.float32))
        return meta["model"], record


@dataclass(frozen=True)
class NewestQuery:
    """The predictions of a model after the first ``after``; the newest ``most`` of them."""

    model: int
    after: int
    most: int

    def answer(self, memories: Sequence[GateMemory]) -> Reply:
        """The engine's side."""
        number, found = memories[self.model].after(self.after, self.most)
        records = [[r.id, r.time, r.top_k, caller] for r, caller in found]
        values = np.concatenate([r.values for r, _ in found]) if found else np.zeros(0)
        return {"number": number, "records": records}, values.astype(np.float64)

    def read(
        self, meta: dict[str, Any], values: npt.NDArray[np.float64], width: int
    ) -> tuple[list[tuple[Record, int]], int]:
        """The asking side: the records with their callers, and ``after`` for the next time."""
        rows = values.astype(np.float32).reshape(-1, width)
        found = [
            (Record(id_, moment, top_k, row), caller)
            for (id_, moment, top_k, caller), row in zip(meta["records"], rows, strict=True)
        ]
        return found, meta["number"]


Query = StatisticsQuery | RecordQuery | NewestQuery | DriftQuery
_QUERIES: dict[str, type[Query]] = {
    "statistics": StatisticsQuery,
    "record": RecordQuery,
    "newest": NewestQuery,
    "drift": DriftQuery,
}
_NAMES = {kind: name for name, kind in _QUERIES.items()}


def ask(query: Query) -> bytes:
    """The payload that puts a question."""
    return orjson.dumps({"ask": _NAMES[type(query)], **asdict(query)})


def answer(memories: Sequence[GateMemory], payload: bytes) -> Reply:
    """The answer to a payload of :func:`ask`."""
    fields = orjson.loads(payload)
    return _QUERIES[fields.pop("ask")](**fields).answer(memories)

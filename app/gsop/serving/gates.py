"""Questions about gates, put to all engines of all generations that can be asked."""

import time
from dataclasses import dataclass

from gsop.errors import NotReady, UnknownPrediction
from gsop.gates.drift_query import DriftQuery, DriftReport
from gsop.gates.memory import Record
from gsop.gates.queries import RECENT, RecordQuery, StatisticsQuery
from gsop.gates.statistics import GateStatistics
from gsop.serving.engines import LoadedModel
from gsop.serving.generation import Generations


@dataclass(frozen=True)
class Recent:
    """A line of the newest predictions; ``time`` is Unix time in seconds."""

    id: str
    time: float
    class_id: int
    probability: float


@dataclass(frozen=True)
class Statistics:
    """What ``GET /attention`` shows.

    Attributes:
        gates: the statistics.
        since: Unix time from which on they count.
        recent: the newest predictions, newest first.
    """

    gates: GateStatistics
    since: float
    recent: list[Recent]


class GateQuestions:
    """Asks the engines.

    A version's gates may be remembered in two generations for a moment, while the new one takes
    over from the old.
    """

    def __init__(self, generations: Generations) -> None:
        self._generations = generations

    async def statistics(
        self, model: LoadedModel, class_id: int | None, caller: int | None = None
    ) -> Statistics:
        """The gates' statistics, of all engines together.

        Args:
            model: whose gates.
            class_id: only predictions whose first class it was; only for everybody's.
            caller: only this caller's predictions; everybody's if ``None``.

        Raises:
            NotReady: if no engine answers.
        """
        total = GateStatistics.empty(model.manifest.answer.gate_size)
        since, recent, asked = time.time(), [], False
        for generation in self._generations.alive:
            found = generation.engines.find(model.manifest.name, model.manifest.version)
            if found is None:
                continue
            query = StatisticsQuery(found.index, class_id, caller)
            try:
                replies = await generation.engines.ask(query)
            except NotReady:
                continue
            asked = True
            for meta, values in replies:
                total.merge(query.read(meta, values))
                since = min(since, meta["since"])
                recent += [Recent(**fields) for fields in meta["recent"]]
        if not asked:
            raise NotReady("no engine is ready to be asked, or it is too busy")
        recent.sort(key=lambda entry: entry.time, reverse=True)
        return Statistics(total, since, recent[:RECENT])

    async def drift(self, model: LoadedModel) -> DriftReport:
        """How far a version's gates have drifted, by the engine that has most to tell of it.

        Raises:
            NotReady: if no engine answers.
        """
        reports: list[DriftReport] = []
        for generation in self._generations.alive:
            found = generation.engines.find(model.manifest.name, model.manifest.version)
            if found is None:
                continue
            query = DriftQuery(found.index)
            try:
                reports += [query.read(*reply) for reply in await generation.engines.ask(query)]
            except NotReady:
                continue
        if not reports:
            raise NotReady("no engine is ready to be asked, or it is too busy")
        return max(reports, key=lambda report: report.weight)

    async def record(self, id_: str, caller: int | None = None) -> tuple[LoadedModel, Record]:
        """One earlier prediction, and the version that made it; of ``caller`` if that is given.

        Raises:
            UnknownPrediction: if no engine keeps it.
            NotReady: if no engine answers.
        """
        query, asked = RecordQuery(id_, caller), False
        for generation in self._generations.alive:
            try:
                replies = await generation.engines.ask(query)
            except NotReady:
                continue
            asked = True
            for meta, values in replies:
                if found := query.read(meta, values):
                    index, record = found
                    return generation.engines.models[index], record
        if not asked:
            raise NotReady("no engine is ready to be asked, or it is too busy")
        kept = self._generations.memory.settings.attention_records
        raise UnknownPrediction(
            f"no such prediction is kept: only the newest are ({kept} a version and engine), and "
            "none survives its engine's death"
        )

"""Questions about gates, put to all engines of all generations that can be asked."""

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from gsop.errors import NotReady, UnknownPrediction
from gsop.gates.drift_query import DriftQuery, DriftReport, Reply
from gsop.gates.memory import Record
from gsop.gates.queries import RECENT, Query, RecordQuery, StatisticsQuery
from gsop.gates.statistics import GateStatistics
from gsop.serving.engines import LoadedModel
from gsop.serving.generation import Generation, Generations
from gsop.settings import Settings


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
        since = time.time()
        recent: list[Recent] = []
        for meta, values in await self._ask_of(
            model, lambda index: StatisticsQuery(index, class_id, caller)
        ):
            total.merge(StatisticsQuery.read(meta, values))
            since = min(since, meta["since"])
            recent += [Recent(**fields) for fields in meta["recent"]]
        recent.sort(key=lambda entry: entry.time, reverse=True)
        return Statistics(total, since, recent[:RECENT])

    async def drift(self, model: LoadedModel) -> DriftReport:
        """How far a version's gates have drifted, by the engine that has most to tell of it.

        Raises:
            NotReady: if no engine answers.
        """
        reports = [DriftQuery.read(*reply) for reply in await self._ask_of(model, DriftQuery)]
        return max(reports, key=lambda report: report.weight)

    async def record(self, id_: str, caller: int | None = None) -> tuple[LoadedModel, Record]:
        """One earlier prediction, and the version that made it; of ``caller`` if that is given.

        Raises:
            UnknownPrediction: if no engine keeps it.
            NotReady: if no engine answers.
        """
        query = RecordQuery(id_, caller)
        for generation, replies in await self._ask(lambda _: query):
            for reply in replies:
                if found := query.read(*reply):
                    index, record = found
                    return generation.engines.models[index], record
        raise UnknownPrediction(_why_unknown(id_, self._generations.memory.settings))

    async def _ask_of(self, model: LoadedModel, query_of: Callable[[int], Query]) -> list[Reply]:
        """What all engines say of a version; ``query_of`` is given its index in a generation."""

        def query_in(generation: Generation) -> Query | None:
            found = generation.engines.find(model.manifest.name, model.manifest.version)
            return None if found is None else query_of(found.index)

        return [reply for _, replies in await self._ask(query_in) for reply in replies]

    async def _ask(
        self, query_in: Callable[[Generation], Query | None]
    ) -> list[tuple[Generation, list[Reply]]]:
        """What the engines of each generation say; ``query_in`` has the question for each.

        Raises:
            NotReady: if none answers.
        """
        found = []
        for generation in self._generations.alive:
            if (query := query_in(generation)) is not None:
                with suppress(NotReady):
                    found.append((generation, await generation.engines.ask(query)))
        if not found:
            raise NotReady("no engine is ready to be asked, or it is too busy")
        return found


def _why_unknown(id_: str, settings: Settings) -> str:
    """Why a prediction is not kept here, as far as its id tells."""
    own, kept = settings.replica_mark, settings.attention_records
    maker = re.match(r"([0-9a-f]{6})\.", id_)
    if maker is not None and maker[1] != own:
        return (
            f"the prediction was made by another instance ({maker[1]}; this one is {own}), or "
            "before this one was started again: only the instance that made it keeps it"
        )
    return (
        f"no such prediction is kept: only the newest are ({kept} a version and engine), and none "
        "survives its engine's death"
    )

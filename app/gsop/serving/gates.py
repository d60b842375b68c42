"""Questions about gates, put to all engines of all generations that can be asked."""

import base64
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from gsop.errors import NotReady, UnknownPrediction
from gsop.gates.drift_query import DriftQuery, DriftReport, Reply
from gsop.gates.memory import Record
from gsop.gates.queries import RECENT, Query, RecordQuery, StatisticsQuery
from gsop.gates.statistics import GateStatistics
from gsop.serving.control import send_order
from gsop.serving.engines import LoadedModel
from gsop.serving.generation import Generation, Generations
from gsop.serving.sharing import Find, Found, Others, OthersSeen, version_of
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
        instances: whose predictions are in it.
    """

    gates: GateStatistics
    since: float
    recent: list[Recent]
    instances: int


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
        others = OthersSeen()
        if class_id is None and caller is None:
            others = await self._others(model)
            since = min(since, others.since) if others.samples else since
            recent += [Recent(**fields) for fields in others.recent]
        if others.sums:
            sums = np.frombuffer(base64.b64decode(others.sums), np.float64).reshape(4, -1)
            total.merge(GateStatistics(others.samples, sums))
        recent.sort(key=lambda entry: entry.time, reverse=True)
        return Statistics(total, since, recent[:RECENT], 1 + others.instances)

    async def _others(self, model: LoadedModel) -> OthersSeen:
        """What other instances tell of a version, if anything is shared."""
        memory = self._generations.memory
        if not memory.settings.shared_url:
            return OthersSeen()
        try:
            order = Others(version=version_of(model.manifest))
            return OthersSeen(**await send_order(memory.plan.control, order))
        except NotReady:
            return OthersSeen()

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
        return await self._shared_record(id_, caller)

    async def _shared_record(self, id_: str, caller: int | None) -> tuple[LoadedModel, Record]:
        """Another instance's prediction."""
        memory = self._generations.memory
        settings = memory.settings
        if not settings.shared_url:
            raise UnknownPrediction(_why_unknown(id_, settings))
        found = Found(**await send_order(memory.plan.control, Find(id=id_, caller=caller)))
        if not found.reached:
            raise UnknownPrediction(
                "the prediction is not this instance's, and what instances share is away: try "
                "again later"
            )
        if not found.version:
            raise UnknownPrediction(_why_unknown(id_, settings))
        name, version, _ = found.version.split("/")
        model = self._generations.present.engines.find(name, version)
        if model is None or version_of(model.manifest) != found.version:
            raise UnknownPrediction(f"the prediction is of {name}/{version}, not loaded here")
        content = base64.b64decode(found.values)
        if len(content) != 4 * model.manifest.answer.width:  # whoever wrote it is no instance
            raise UnknownPrediction(_why_unknown(id_, settings))
        values = np.frombuffer(content, np.float32)
        if not np.isfinite(values).all():
            raise UnknownPrediction(_why_unknown(id_, settings))
        return model, Record(id_, found.time, found.top_k, values)

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
            "before this one was started again: the instance that made it keeps it, and others "
            "where something is shared (GSOP_SHARED_URL), for a time"
        )
    return (
        f"no such prediction is kept: only the newest are ({kept} a version and engine), and none "
        "survives its engine's death"
    )

"""How Prometheus sees the service: the counters of all processes, and what they tell of themselves.

Any front answers for the whole service.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gsop.arena.board import Board, EngineStatus
from gsop.arena.counters import totals
from gsop.arena.families import Family, Ledger
from gsop.arena.layout import Arena
from gsop.arena.states import EngineState, Phase


def exposition(arena: Arena) -> bytes:
    """The text of ``GET /metrics``."""
    registry = CollectorRegistry()
    registry.register(_ArenaCollector(arena))
    return generate_latest(registry)


class _ArenaCollector(Collector):
    def __init__(self, arena: Arena) -> None:
        self._arena = arena

    def collect(self) -> Iterable[Metric]:
        ledger, summed = Ledger(self._arena.deployment.routes), totals(self._arena)
        for family in ledger.families:
            write = _histogram if family.buckets else _counter
            yield write(family, ledger, summed)
        yield from _gauges(self._arena)


def _counter(family: Family, ledger: Ledger, summed: npt.NDArray[np.float64]) -> Metric:
    metric = CounterMetricFamily(family.name, family.help, labels=[n for n, _ in family.labels])
    for labels, start in ledger.rows(family):
        # Of the many routes times statuses only those that occurred are worth a line.
        if len(family.labels) < 2 or summed[start]:
            metric.add_metric(labels, float(summed[start]))
    return metric


def _histogram(family: Family, ledger: Ledger, summed: npt.NDArray[np.float64]) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=[n for n, _ in family.labels])
    bounds = [*(str(float(b)) for b in family.buckets), "+Inf"]
    for labels, start in ledger.rows(family):
        counts = np.cumsum(summed[start : start + len(bounds)])
        metric.add_metric(
            labels,
            [(bound, float(count)) for bound, count in zip(bounds, counts, strict=True)],
            float(summed[start + len(bounds)]),
        )
    return metric


def _gauge(
    name: str, text: str, labels: Sequence[str], rows: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    metric = GaugeMetricFamily(name, text, labels=labels)
    for values, number in rows:
        metric.add_metric(values, number)
    return metric


def _gauges(arena: Arena) -> Iterator[Metric]:
    board = Board(arena)
    total, used = arena.deployment.settings.slots, board.slots_used
    yield _gauge(
        "gsop_slots",
        "Slots, by whether an image is in them.",
        ["state"],
        [(["used"], used), (["free"], total - used)],
    )
    yield from _of_engines([(str(i), engine) for i, engine in enumerate(board.engines())])
    yield _gauge(
        "gsop_phase",
        "1 for how far the service has come towards its end.",
        ["phase"],
        [([phase.name.lower()], float(board.phase == phase)) for phase in Phase],
    )
    yield _gauge(
        "gsop_model_info",
        "The models that are loaded.",
        ["name", "version"],
        [([m.name, m.version], 1.0) for m in arena.deployment.manifests],
    )


def _of_engines(engines: Sequence[tuple[str, EngineStatus]]) -> Iterator[Metric]:
    yield _gauge(
        "gsop_engine_state",
        "1 for the state that the engine is in.",
        ["engine", "state"],
        [
            ([i, state.name.lower()], float(engine.state == state))
            for i, engine in engines
            for state in EngineState
        ],
    )
    yield _gauge(
        "gsop_engine_epoch",
        "How often the engine has become ready.",
        ["engine"],
        [([i], float(engine.epoch)) for i, engine in engines],
    )
    yield _gauge(
        "gsop_engine_batch_limit",
        "Most images that the engine puts into a batch.",
        ["engine"],
        [([i], float(engine.batch_limit)) for i, engine in engines],
    )
    yield _gauge(
        "gsop_engine_predicted_seconds",
        "Time that a batch is expected to take: fixed, and for each image in it.",
        ["engine", "part"],
        [
            ([i, part], seconds)
            for i, engine in engines
            for part, seconds in (("fixed", engine.fixed_seconds), ("image", engine.image_seconds))
        ],
    )
    restarts = CounterMetricFamily(
        "gsop_engine_restarts", "How often the engine's process was replaced.", labels=["engine"]
    )
    for i, engine in engines:
        restarts.add_metric([i], float(engine.restarts))
    yield restarts
    yield _gauge(
        "gsop_engine_info",
        "What each engine runs on.",
        ["engine", "device", "precision"],
        [([i, engine.device, engine.precision], 1.0) for i, engine in engines],
    )

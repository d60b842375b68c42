"""Counters in the arena, and how Prometheus sees them.

Each process adds to its own row of ``Arena.counters``, without locks; ``/metrics`` sums the rows,
so any front answers for the whole service. Names follow prometheus.io/docs/practices/naming: base
units, ``_total`` for counters, labels from fixed sets only.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

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

from gsop.arena.layout import Arena, EngineState, Phase
from gsop.errors import GSoPError

ROUTES = (
    "/predict",
    "/attention",
    "/attention/{id}",
    "/models",
    "/models/{name}",
    "/healthz",
    "/readyz",
    "/metrics",
    "other",
)
STATUSES = (
    *(
        "200",
        "304",
        "307",
        "400",
        "401",
        "403",
        "404",
        "405",
        "406",
        "408",
        "413",
        "415",
        "422",
        "429",
    ),
    *("499", "500", "503", "504", "other"),
)
STAGES = ("read", "decode", "queue", "inference", "total")
SECONDS = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.075),
    *(0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def _codes(root: type[GSoPError]) -> Iterator[str]:
    yield root.code
    for child in root.__subclasses__():
        yield from _codes(child)


RESULTS = ("ok", "cancelled", *dict.fromkeys(_codes(GSoPError)))


@dataclass(frozen=True, eq=False)  # by identity: it is looked up on every request
class Family:
    """One metric and its labels.

    Attributes:
        name: with unit, without the suffix that the text format adds.
        help: what it counts.
        labels: the label's name and all the values that it can take, for each label.
        buckets: upper bounds of a histogram, without infinity; empty for a counter.
    """

    name: str
    help: str
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """Numbers for each combination of labels: a count, or a bucket each and the sum."""
        return len(self.buckets) + 2 if self.buckets else 1


REQUESTS = Family(
    "gsop_requests",
    "Requests answered, by route and HTTP status (499: the client left first).",
    (("route", ROUTES), ("status", STATUSES)),
)
IMAGES = Family("gsop_images", "Images taken in, by what became of them.", (("result", RESULTS),))
STAGE_SECONDS = Family(
    "gsop_stage_seconds",
    "Time an image spent in each stage of its way.",
    (("stage", STAGES),),
    SECONDS,
)
BATCH_SIZE = Family("gsop_batch_size", "Images in a batch.", buckets=BATCHES)
SKIPPED = Family(
    "gsop_skipped",
    "Slots that never reached the device (late: their batch would have ended after the deadline).",
    (("reason", ("expired", "late", "cancelled")),),
)
RESENT = Family("gsop_resent", "Slots sent again because their engine died.")
DECODERS_LOST = Family(
    "gsop_decoders_lost",
    "Decoding helpers that an image ended, and that were replaced.",
    (("reason", ("hung", "crashed")),),
)
FAMILIES = (REQUESTS, IMAGES, STAGE_SECONDS, BATCH_SIZE, SKIPPED, RESENT, DECODERS_LOST)


def _places() -> tuple[dict[tuple[Family, tuple[str, ...]], int], int]:
    """Where each combination of labels begins in a row, and the row's length."""
    places, end = {}, 0
    for family in FAMILIES:
        for values in product(*(values for _, values in family.labels)):
            places[family, values] = end
            end += family.width
    return places, end


_PLACES, COUNTERS = _places()


class Meter:
    """One process's hand on its row of counters."""

    def __init__(self, arena: Arena, row: int) -> None:
        self._row: npt.NDArray[np.float64] = arena.counters[row]

    @classmethod
    def of_front(cls, arena: Arena, front: int) -> "Meter":
        """The meter of a front process."""
        return cls(arena, front)

    @classmethod
    def of_engine(cls, arena: Arena, engine: int) -> "Meter":
        """The meter of an engine process."""
        return cls(arena, arena.deployment.fronts + engine)

    def count(self, family: Family, *labels: str) -> None:
        """Add one."""
        self._row[_PLACES[family, labels]] += 1

    def observe(self, family: Family, value: float, *labels: str) -> None:
        """Add ``value`` to a histogram."""
        start = _PLACES[family, labels]
        self._row[start + bisect_left(family.buckets, value)] += 1
        self._row[start + len(family.buckets) + 1] += value

    def count_request(self, route: str, status: int) -> None:
        """Count one answered request; what is not in the fixed sets counts as ``other``."""
        text = str(status)
        self.count(
            REQUESTS,
            route if route in ROUTES else "other",
            text if text in STATUSES else "other",
        )


def exposition(arena: Arena) -> bytes:
    """The text of ``GET /metrics``."""
    registry = CollectorRegistry()
    registry.register(_ArenaCollector(arena))
    return generate_latest(registry)


class _ArenaCollector(Collector):
    def __init__(self, arena: Arena) -> None:
        self._arena = arena

    def collect(self) -> Iterable[Metric]:
        totals = self._arena.counters.sum(axis=0)
        for family in FAMILIES:
            yield _histogram(family, totals) if family.buckets else _counter(family, totals)
        yield from _gauges(self._arena)


def _rows(family: Family) -> Iterator[tuple[tuple[str, ...], int]]:
    return ((labels, start) for (owner, labels), start in _PLACES.items() if owner is family)


def _counter(family: Family, totals: npt.NDArray[np.float64]) -> Metric:
    metric = CounterMetricFamily(family.name, family.help, labels=[n for n, _ in family.labels])
    for labels, start in _rows(family):
        # Of the many routes times statuses only those that occurred are worth a line.
        if len(family.labels) < 2 or totals[start]:
            metric.add_metric(labels, float(totals[start]))
    return metric


def _histogram(family: Family, totals: npt.NDArray[np.float64]) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=[n for n, _ in family.labels])
    bounds = [*(str(float(b)) for b in family.buckets), "+Inf"]
    for labels, start in _rows(family):
        counts = np.cumsum(totals[start : start + len(bounds)])
        metric.add_metric(
            labels,
            [(bound, float(count)) for bound, count in zip(bounds, counts, strict=True)],
            float(totals[start + len(bounds)]),
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
    total = arena.deployment.settings.slots
    used = int(np.count_nonzero(arena.slots["ticket"]))
    yield _gauge(
        "gsop_slots",
        "Slots, by whether an image is in them.",
        ["state"],
        [(["used"], used), (["free"], total - used)],
    )
    engines = [(str(i), engine) for i, engine in enumerate(arena.engines)]
    yield _gauge(
        "gsop_engine_state",
        "1 for the state that the engine is in.",
        ["engine", "state"],
        [
            ([i, state.name.lower()], float(engine["state"] == state))
            for i, engine in engines
            for state in EngineState
        ],
    )
    yield _gauge(
        "gsop_engine_epoch",
        "How often the engine has become ready.",
        ["engine"],
        [([i], float(engine["epoch"])) for i, engine in engines],
    )
    yield _gauge(
        "gsop_engine_batch_limit",
        "Most images that the engine puts into a batch.",
        ["engine"],
        [([i], float(engine["batch_limit"])) for i, engine in engines],
    )
    yield _gauge(
        "gsop_engine_predicted_seconds",
        "Time that a batch is expected to take: fixed, and for each image in it.",
        ["engine", "part"],
        [
            ([i, part], float(engine[f"{part}_seconds"]))
            for i, engine in engines
            for part in ("fixed", "image")
        ],
    )
    restarts = CounterMetricFamily(
        "gsop_engine_restarts", "How often the engine's process was replaced.", labels=["engine"]
    )
    for i, engine in engines:
        restarts.add_metric([i], float(engine["restarts"]))
    yield restarts
    yield _gauge(
        "gsop_draining",
        "1 once the service was told to stop.",
        [],
        [([], float(arena.phase != Phase.SERVING))],
    )
    yield _gauge(
        "gsop_model_info",
        "The models that are loaded.",
        ["name", "version"],
        [([m.name, m.version], 1.0) for m in arena.deployment.manifests],
    )
    yield _gauge(
        "gsop_engine_info",
        "What each engine runs on.",
        ["engine", "device", "precision"],
        [([i, e["device"].decode(), e["precision"].decode()], 1.0) for i, e in engines],
    )

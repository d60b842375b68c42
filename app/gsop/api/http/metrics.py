"""How Prometheus sees the service: the counters of all processes, and what they tell of themselves.

Any front answers for the whole service.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from gsop.api.http.gauges import gauges
from gsop.arena.counters import totals
from gsop.arena.exemplars import Example, examples
from gsop.arena.families import PLACE, Family, Ledger
from gsop.serving.generation import Generations


class Exposition(NamedTuple):
    """The answer of ``GET /metrics``."""

    text: bytes
    media_type: str


def exposition(
    generations: Generations, accept: str, *, certificate_expires: float | None = None
) -> Exposition:
    """What ``GET /metrics`` answers.

    Args:
        generations: the service's.
        accept: the request's ``Accept``: OpenMetrics if it asks for that, else Prometheus' text.
        certificate_expires: Unix seconds; ``None`` if the service speaks no TLS.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(generations, certificate_expires))
    encode, media_type = choose_encoder(accept)
    return Exposition(encode(registry), media_type)


Places = Mapping[str, tuple[str, str]]
"""Model and version of each place, as long as anything is known of them."""


class _Collector(Collector):
    def __init__(self, generations: Generations, certificate_expires: float | None) -> None:
        self._generations = generations
        self._certificate_expires = certificate_expires

    def collect(self) -> Iterable[Metric]:
        memory = self._generations.memory
        ledger, summed = Ledger.of(memory.plan.routes), totals(memory)
        places = {
            str(version.place): (version.name, version.version)
            for version in self._generations.status.versions
            if version.place is not None
        }
        for family in ledger.families:
            if not family.buckets:
                yield _counter(family, ledger, summed, places)
            else:
                kept = examples(memory) if family is ledger.request_seconds else {}
                yield _histogram(family, ledger, summed, places, kept)
        yield from gauges(self._generations, self._certificate_expires)


def _counter(
    family: Family, ledger: Ledger, summed: npt.NDArray[np.float64], places: Places
) -> Metric:
    metric = CounterMetricFamily(family.name, family.help, labels=_label_names(family))
    for labels, start in ledger.rows(family):
        told = _labels(family, labels, places)
        if told is not None and (_is_small(family) or summed[start]):
            metric.add_metric(told, float(summed[start]))
    return metric


def _histogram(
    family: Family,
    ledger: Ledger,
    summed: npt.NDArray[np.float64],
    places: Places,
    kept: Mapping[tuple[str, int], Example],
) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=_label_names(family))
    bounds = [*(str(float(b)) for b in family.buckets), "+Inf"]
    for labels, start in ledger.rows(family):
        counts = np.cumsum(summed[start : start + len(bounds)])
        told = _labels(family, labels, places)
        if told is None or (not _is_small(family) and not counts[-1]):
            continue
        buckets = [
            _bucket(bound, float(count), kept.get((labels[0], number)) if kept else None)
            for number, (bound, count) in enumerate(zip(bounds, counts, strict=True))
        ]
        metric.add_metric(told, buckets, float(summed[start + len(bounds)]))
    return metric


def _bucket(
    bound: str, count: float, example: Example | None
) -> tuple[str, float] | tuple[str, float, Exemplar]:
    if example is None:
        return bound, count
    return bound, count, Exemplar({"trace_id": example.trace}, example.seconds, example.time)


def _is_small(family: Family) -> bool:
    """Whether all its rows are told, also those of what never occurred.

    Not so of routes, times statuses above all, nor of roles.
    """
    return len(family.labels) < 2 and all(name != "route" for name, _ in family.labels)


def _label_names(family: Family) -> list[str]:
    names = [name for name, _ in family.labels]
    return ["model", "version", *names[1:]] if names[:1] == [PLACE] else names


def _labels(family: Family, values: Sequence[str], places: Places) -> Sequence[str] | None:
    """The labels as they are told; ``None`` for a place that nobody has."""
    if not family.labels or family.labels[0][0] != PLACE:
        return values
    version = places.get(values[0])
    return None if version is None else [*version, *values[1:]]

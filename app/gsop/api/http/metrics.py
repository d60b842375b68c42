"""How Prometheus sees the service: the counters of all processes, and what they tell of themselves.

Any front answers for the whole service.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gsop.api.http.gauges import gauges
from gsop.arena.counters import totals
from gsop.arena.families import PLACE, Family, Ledger
from gsop.serving.generation import Generations


def exposition(generations: Generations) -> bytes:
    """The text of ``GET /metrics``."""
    registry = CollectorRegistry()
    registry.register(_Collector(generations))
    return generate_latest(registry)


Places = Mapping[str, tuple[str, str]]
"""Model and version of each place, as long as anything is known of them."""


class _Collector(Collector):
    def __init__(self, generations: Generations) -> None:
        self._generations = generations

    def collect(self) -> Iterable[Metric]:
        memory = self._generations.memory
        ledger, summed = Ledger.of(memory.plan.routes), totals(memory)
        places = {
            str(version.place): (version.name, version.version)
            for version in self._generations.status.versions
            if version.place is not None
        }
        for family in ledger.families:
            write = _histogram if family.buckets else _counter
            yield write(family, ledger, summed, places)
        yield from gauges(self._generations)


def _counter(
    family: Family, ledger: Ledger, summed: npt.NDArray[np.float64], places: Places
) -> Metric:
    metric = CounterMetricFamily(family.name, family.help, labels=_label_names(family))
    for labels, start in ledger.rows(family):
        # Of the many routes times statuses only those that occurred are worth a line.
        told = _labels(family, labels, places)
        if told is not None and (len(family.labels) < 2 or summed[start]):
            metric.add_metric(told, float(summed[start]))
    return metric


def _histogram(
    family: Family, ledger: Ledger, summed: npt.NDArray[np.float64], places: Places
) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=_label_names(family))
    bounds = [*(str(float(b)) for b in family.buckets), "+Inf"]
    for labels, start in ledger.rows(family):
        counts = np.cumsum(summed[start : start + len(bounds)])
        told = _labels(family, labels, places)
        if told is None or (len(family.labels) > 1 and not counts[-1]):
            continue
        metric.add_metric(
            told,
            [(bound, float(count)) for bound, count in zip(bounds, counts, strict=True)],
            float(summed[start + len(bounds)]),
        )
    return metric


def _label_names(family: Family) -> list[str]:
    names = [name for name, _ in family.labels]
    return ["model", "version", *names[1:]] if names[:1] == [PLACE] else names


def _labels(family: Family, values: Sequence[str], places: Places) -> Sequence[str] | None:
    """The labels as they are told; ``None`` for a place that nobody has."""
    if not family.labels or family.labels[0][0] != PLACE:
        return values
    version = places.get(values[0])
    return None if version is None else [*version, *values[1:]]

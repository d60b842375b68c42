"""What the Open Inference Protocol tells of how often a model answered, and how long it took.

Of the service's counters, so they never go back while a version is loaded. What is not counted by
version is told as the mean over all of them: the time of decoding, and how many images a batch has.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from gsop.api.http.service import Service
from gsop.arena.counters import totals
from gsop.arena.families import (
    BATCH_SIZE,
    INFERENCE_SECONDS,
    PREDICTION_SECONDS,
    PREDICTIONS,
    SPAN_SECONDS,
    Family,
    Ledger,
)
from gsop.serving.engines import LoadedModel


def statistics(service: Service, models: list[LoadedModel]) -> dict[str, Any]:
    """What is counted of versions (``ModelStatisticsResponse``)."""
    seen = _Counts(service)
    return {"model_stats": [_of(seen, model) for model in models]}


class _Counts:
    """All counters at one moment."""

    def __init__(self, service: Service) -> None:
        memory = service.generations.memory
        self._ledger, self._row = Ledger.of(memory.plan.routes), totals(memory)

    def counts(self, family: Family, *labels: str) -> float:
        """Of all rows whose labels begin so."""
        buckets = len(family.buckets) + 1 if family.buckets else 1
        return float(sum(part[:buckets].sum() for part in self._parts(family, labels)))

    def sums(self, family: Family, *labels: str) -> float:
        """Of the values of a histogram, of all rows whose labels begin so."""
        return float(sum(part[-1] for part in self._parts(family, labels)))

    def answered(self, place: str) -> tuple[float, float]:
        """Images of a version that were answered, and that were not."""
        all_ = self.counts(PREDICTIONS, place)
        good = sum(
            float(self._row[at])
            for labels, at in self._ledger.rows(PREDICTIONS)
            if labels[0] == place and labels[-1] == "ok"
        )
        return good, all_ - good

    def _parts(self, family: Family, labels: tuple[str, ...]) -> list[npt.NDArray[np.float64]]:
        return [
            self._row[at : at + family.width]
            for own, at in self._ledger.rows(family)
            if own[: len(labels)] == labels
        ]


def _of(seen: _Counts, model: LoadedModel) -> dict[str, Any]:
    place = model.place
    good, bad = seen.answered(place)
    total, infer = seen.sums(PREDICTION_SECONDS, place), seen.sums(INFERENCE_SECONDS, place)
    decodings = seen.counts(SPAN_SECONDS, "decode")
    decode = good * seen.sums(SPAN_SECONDS, "decode") / decodings if decodings else 0.0
    batches, images = seen.counts(BATCH_SIZE), seen.sums(BATCH_SIZE)
    return {
        "name": model.manifest.name,
        "version": model.manifest.version,
        "inference_count": int(good),
        "execution_count": int(np.ceil(good * batches / images)) if images else 0,
        "inference_stats": {
            "success": _told(good, decode + total),
            "fail": _told(bad, 0),
            "queue": _told(good, total - infer),
            "compute_input": _told(good, decode),
            "compute_infer": _told(good, infer),
            "compute_output": _told(good, 0),
            "cache_hit": _told(0, 0),
            "cache_miss": _told(0, 0),
        },
        "batch_stats": [],
    }


def _told(count: float, seconds: float) -> dict[str, int]:
    return {"count": int(count), "ns": max(0, int(seconds * 1e9))}

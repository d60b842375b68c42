"""``GET /status``: the present state in one small text, for those who watch it live.

Everything counts since the service's start; whoever wants rates takes the difference of two. It is
made at most twice a second, however many ask.
"""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter
from starlette.responses import Response

from gsop.api.http import rendering
from gsop.api.http.routes import STATUS
from gsop.api.http.schemas import ServiceNow
from gsop.api.http.service import Service, ServiceDep
from gsop.arena.counters import totals
from gsop.arena.families import (
    BATCH_SIZE,
    IMAGES,
    PREDICTION_SECONDS,
    PREDICTIONS,
    ROLES,
    SPAN_SECONDS,
    Family,
    Ledger,
)

router = APIRouter(tags=["operations"])

FRESH_SECONDS = 0.5
"""For so long one text serves all who ask."""


@router.get(STATUS, summary="The service now, in one text", response_model=ServiceNow)
async def status(service: ServiceDep) -> Response:
    """Slots, engines, versions with their shares, and counts since the start.

    It is what the page shows live; a difference of two, over the difference of their `time`, is a
    rate. Prometheus asks `GET /metrics` instead.
    """
    text = service.now.get(FRESH_SECONDS, lambda: rendering.to_json(_now(service)))
    return Response(text, media_type="application/json")


def _now(service: Service) -> dict[str, Any]:
    generations = service.generations
    board, reader = generations.present.engines.board, _Reader(service)
    return {
        "time": time.time(),
        "phase": generations.board.phase.name.lower(),
        "generation": generations.status.generation,
        "slots": {"used": board.slots_used, "total": service.settings.slots},
        "engines": [
            {
                "state": engine.state.name.lower(),
                "device": engine.device,
                "precision": engine.precision,
                "restarts": engine.restarts,
                "batch_limit": engine.batch_limit,
            }
            for engine in board.engines()
        ],
        "images": {labels[0]: count for labels, count in reader.counts(IMAGES) if count},
        "spans": [
            {"name": labels[0], **histogram}
            for labels, histogram in reader.histograms(SPAN_SECONDS)
        ],
        "batches": next(histogram for _, histogram in reader.histograms(BATCH_SIZE)),
        "versions": [reader.version(v.name, v.version, v.state, v.place) for v in reader.versions],
    }


class _Reader:
    """Sums of all processes' counters, read once."""

    def __init__(self, service: Service) -> None:
        memory = service.generations.memory
        self._ledger = Ledger.of(memory.plan.routes)
        self._totals: npt.NDArray[np.float64] = totals(memory)
        self._models = service.generations.routing.models
        self.versions = service.generations.status.versions
        engines = service.generations.present.engines
        self._drift = {
            (m.manifest.name, m.manifest.version): engines.drift.status(m.index).score
            for m in engines.models
        }

    def counts(self, family: Family) -> Iterator[tuple[tuple[str, ...], int]]:
        """Each combination of labels, and its count."""
        for labels, at in self._ledger.rows(family):
            yield labels, int(self._totals[at])

    def histograms(self, family: Family) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
        """Each combination of labels, and how many there were, their sum and the buckets."""
        for labels, at in self._ledger.rows(family):
            part = self._totals[at : at + family.width]
            yield labels, _histogram(family, part)

    def version(self, name: str, version: str, state: str, place: int | None) -> dict[str, Any]:
        """One version: its state, what it is to get, and what it did."""
        shares = self._models.get(name)
        roles: dict[str, float] = {}
        if shares is not None:
            traffic = shares.traffic
            if version == traffic.stable:
                roles["stable"] = 100.0 - traffic.percent
            if version == traffic.canary:
                roles["canary"] = traffic.percent
            if version == traffic.shadow:
                roles["shadow"] = 0.0
        return {
            "name": name,
            "version": version,
            "state": state,
            "percent_by_role": roles,
            "answered": 0 if place is None else self._answered(place),
            "seconds": 0.0 if place is None else self._seconds(place),
            "drift": self._drift.get((name, version)),
        }

    def _answered(self, place: int) -> int:
        at = self._ledger.places
        return int(sum(self._totals[at[PREDICTIONS, (str(place), r, "ok")]] for r in ROLES))

    def _seconds(self, place: int) -> float:
        at, last = self._ledger.places, PREDICTION_SECONDS.width - 1
        return float(
            sum(self._totals[at[PREDICTION_SECONDS, (str(place), r)] + last] for r in ROLES)
        )


def _histogram(family: Family, part: npt.NDArray[np.float64]) -> dict[str, Any]:
    return {
        "count": int(part[:-1].sum()),
        "sum": float(part[-1]),
        "bounds": list(family.buckets),
        "buckets": part[:-1].astype(np.int64),
    }

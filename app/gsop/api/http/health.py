"""``GET /healthz``, ``/readyz`` and ``/metrics``: for those who watch the service."""

import time

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from gsop.api.http.problems import documented, problem_response
from gsop.api.http.schemas import EngineHealth, Health
from gsop.api.http.service import Service, ServiceDep
from gsop.arena.counters import exposition
from gsop.arena.layout import EngineState, Phase
from gsop.errors import Draining, NotReady

router = APIRouter(tags=["operations"])

SILENCE_SECONDS = 10.0
"""A loop that has not shown itself for so long is dead."""


@router.get("/healthz", summary="Liveness", response_model=Health, responses=documented(NotReady))
async def healthz(service: ServiceDep) -> Response | Health:
    """Whether the service can still help itself; start it again if not.

    It fails when the supervisor is gone, when no engine can be started, or when an engine's loop
    stands still although no batch explains it.
    """
    fault = _fault(service)
    if fault is not None:
        engines = [engine.model_dump() for engine in _engines(service)]
        return problem_response(NotReady(fault), engines=engines)
    return Health(status="alive", engines=_engines(service))


@router.get(
    "/readyz", summary="Readiness", response_model=Health, responses=documented(NotReady, Draining)
)
async def readyz(service: ServiceDep) -> Response | Health:
    """Whether to send requests: a model is loaded and warm, an engine answers, nobody drains."""
    engines = _engines(service)
    if service.client.arena.phase != Phase.SERVING:
        error: NotReady | Draining = Draining("the service is shutting down")
    elif EngineState.READY not in service.client.states:
        error = NotReady("no engine is ready: " + ", ".join(e.state for e in engines))
    else:
        return Health(status="ready", engines=engines)
    return problem_response(error, engines=[engine.model_dump() for engine in engines])


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
)
async def metrics(service: ServiceDep) -> Response:
    """Requests, stage durations, batch sizes, slots and engines, of all processes together."""
    return Response(exposition(service.client.arena), media_type=CONTENT_TYPE_LATEST)


def _engines(service: Service) -> list[EngineHealth]:
    return [
        EngineHealth(
            engine=number,
            state=EngineState(engine["state"]).name.lower(),
            device=engine["device"].decode(),
            precision=engine["precision"].decode(),
            epoch=int(engine["epoch"]),
            restarts=int(engine["restarts"]),
        )
        for number, engine in enumerate(service.client.arena.engines)
    ]


def _fault(service: Service) -> str | None:
    arena, now = service.client.arena, time.monotonic_ns()
    if _seconds(now, int(arena.service["beat"])) > SILENCE_SECONDS:
        return "the supervisor is dead"
    if all(state == EngineState.FAILED for state in service.client.states):
        return "no engine can be started; the log says why"
    for number, engine in enumerate(arena.engines):
        busy_since = int(engine["busy_since"])
        since = busy_since or int(engine["beat"])
        limit = service.settings.hang_seconds if busy_since else 0.0
        if engine["state"] == EngineState.READY and _seconds(now, since) > limit + SILENCE_SECONDS:
            return f"engine {number} stands still"
    return None


def _seconds(now: int, then: int) -> float:
    return (now - then) / 1e9

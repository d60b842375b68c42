"""``GET /healthz``, ``/readyz`` and ``/metrics``: for those who watch the service."""

import time

from fastapi import APIRouter, Request
from starlette.responses import Response

from gsop.api.http.metrics import exposition
from gsop.api.http.problems import documented, problem_response
from gsop.api.http.routes import HEALTHZ, METRICS, READYZ
from gsop.api.http.schemas import EngineHealth, Health
from gsop.api.http.service import Service, ServiceDep
from gsop.arena.states import EngineState, Phase
from gsop.errors import Draining, NotReady
from gsop.serving.decoding import CALL_SECONDS

router = APIRouter(tags=["operations"])

SILENCE_SECONDS = 10.0
"""A loop that has not shown itself for so long is dead."""


@router.get(HEALTHZ, summary="Liveness", response_model=Health, responses=documented(NotReady))
async def healthz(service: ServiceDep) -> Response | Health:
    """Whether the service can still help itself; start it again if not.

    It fails when the supervisor is gone, when no engine can be started, when an engine's loop
    stands still although no batch explains it, or when no decoder says anything.
    """
    fault = _fault(service)
    if fault is not None:
        engines = [engine.model_dump() for engine in _engines(service)]
        return problem_response(NotReady(fault), engines=engines)
    return Health(status="alive", instance=service.settings.replica_mark, engines=_engines(service))


@router.get(
    READYZ, summary="Readiness", response_model=Health, responses=documented(NotReady, Draining)
)
async def readyz(service: ServiceDep) -> Response | Health:
    """Whether to send requests: a model is loaded and warm, an engine answers, nobody drains."""
    engines, error = _engines(service), unreadiness(service)
    if error is None:
        return Health(status="ready", instance=service.settings.replica_mark, engines=engines)
    return problem_response(error, engines=[engine.model_dump() for engine in engines])


@router.get(
    METRICS,
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}, "application/openmetrics-text": {}}}},
)
async def metrics(request: Request, service: ServiceDep) -> Response:
    """Requests, their times, batches, slots, engines and versions, of all processes together.

    Prometheus' text, or OpenMetrics for whoever accepts that. docs/operations.md says what each
    one means.
    """
    text, media_type = exposition(
        service.generations,
        request.headers.get("accept", ""),
        certificate_expires=service.certificate_expires,
    )
    return Response(text, media_type=media_type, headers={"Vary": "Accept"})


def is_alive(service: Service) -> bool:
    """Whether the service can still help itself."""
    return _fault(service) is None


def unreadiness(service: Service) -> NotReady | Draining | None:
    """Why no requests should be sent; ``None`` if they should."""
    states = [engine.state for engine in service.engines.board.engines()]
    if service.generations.board.phase != Phase.SERVING:
        return Draining("the service is shutting down")
    if EngineState.READY not in states:
        return NotReady("no engine is ready: " + ", ".join(s.name.lower() for s in states))
    return None


def _engines(service: Service) -> list[EngineHealth]:
    return [
        EngineHealth(
            engine=number,
            state=engine.state.name.lower(),
            device=engine.device,
            precision=engine.precision,
            epoch=engine.epoch,
            restarts=engine.restarts,
        )
        for number, engine in enumerate(service.engines.board.engines())
    ]


def _fault(service: Service) -> str | None:
    board, now = service.engines.board, time.monotonic_ns()
    if _seconds(now, service.generations.board.supervisor_beat) > SILENCE_SECONDS:
        return "the supervisor is dead"
    patience = CALL_SECONDS + service.settings.decode_seconds + SILENCE_SECONDS
    if service.generations.present.decoders.silence > patience:
        return "no decoder answers"
    engines = board.engines()
    if all(engine.state == EngineState.FAILED for engine in engines):
        return "no engine can be started; the log says why"
    for number, engine in enumerate(engines):
        since = engine.busy_since or engine.beat
        limit = service.settings.hang_seconds if engine.busy_since else 0.0
        if engine.state == EngineState.READY and _seconds(now, since) > limit + SILENCE_SECONDS:
            return f"engine {number} stands still"
    return None


def _seconds(now: int, then: int) -> float:
    return (now - then) / 1e9

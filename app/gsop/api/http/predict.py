"""``POST /predict``: images in, predictions and gates out."""

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gsop.api.http import rendering
from gsop.api.http.access import caller_of
from gsop.api.http.asked import read_asked
from gsop.api.http.problems import problem
from gsop.api.http.query import parse_query
from gsop.api.http.schemas import PredictQuery
from gsop.api.http.service import TOLD, Service, watch_of
from gsop.errors import GSoPError
from gsop.keys import Caller, KeyScope
from gsop.serving.classify import Classified, Outcomes


class Predict:
    """The call, as a plain ASGI application.

    FastAPI routes a request, resolves dependencies and inspects annotations anew each time: more
    work than everything that a prediction needs of Python. It only documents this one
    (:mod:`~gsop.api.http.predict_documentation`).
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; what cannot be answered is raised."""
        query = parse_query(PredictQuery, scope["query_string"])
        request = Request(scope, receive, send)
        service: Service = scope["app"].state.service
        caller = caller_of(scope)
        _check_scope(query, caller)
        address = request.client.host if request.client else ""
        admitted = service.classifier.admit(
            query.model, query.version, caller, address, request.headers.get
        )
        with admitted as visit:
            images, query = await read_asked(
                request,
                service.settings,
                visit,
                query,
                max_images=service.classifier.max_images,
            )
            _check_scope(query, caller)  # the body may ask for more
            outcomes = await visit.classify(
                images,
                top_k=query.top_k,
                timeout_ms=query.timeout_ms,
                watch=watch_of(request),
            )
        scope[TOLD] = _told(outcomes, sum(map(len, images)))
        familiar = await _familiarity(service, outcomes) if query.familiarity else ()
        response = _response(outcomes, query, familiar, visit.seconds)
        await response(scope, receive, send)


def _check_scope(query: PredictQuery, caller: Caller) -> None:
    if query.attention:
        caller.require(KeyScope.ATTENTION, "attention=true")


def _told(outcomes: Outcomes, count: int) -> dict[str, Any]:
    """What the log is to tell of a prediction; of several images the longest times."""
    answers = [outcome for outcome in outcomes if isinstance(outcome, Classified)]
    told: dict[str, Any] = {"images": len(outcomes), "bytes": count}
    if answers:
        manifest = answers[0].model.manifest
        told |= {
            "model": manifest.name,
            "version": manifest.version,
            "decode_ms": _milliseconds(max(a.decode_seconds for a in answers)),
            "queue_ms": _milliseconds(max(a.inference.queue_seconds for a in answers)),
            "inference_ms": _milliseconds(max(a.inference.inference_seconds for a in answers)),
        }
    return told


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


Familiar = Sequence[float | None]
"""How familiar each image's answer is; empty if nobody asked."""


async def _familiarity(service: Service, outcomes: Outcomes) -> Familiar:
    """How familiar each outcome is that is an answer."""
    references = service.engines.references
    return [
        await references.familiarity(outcome.model.manifest, outcome.inference.values)
        if isinstance(outcome, Classified)
        else None
        for outcome in outcomes
    ]


def _response(
    outcomes: Outcomes, query: PredictQuery, familiar: Familiar, total: float
) -> Response:
    each = zip(outcomes, familiar or [None] * len(outcomes), strict=True)
    if len(outcomes) > 1:
        results = [_result(outcome, query, known, total) for outcome, known in each]
        return rendering.json_response({"results": results})
    return _single(*next(each), query, total)


def _single(
    outcome: Classified | GSoPError, known: float | None, query: PredictQuery, total: float
) -> Response:
    if isinstance(outcome, GSoPError):
        raise outcome
    content = _prediction(outcome, query, known, total)
    timing = rendering.server_timing(content["timing_ms"])
    return rendering.json_response(content, headers={"Server-Timing": timing})


def _result(
    outcome: Classified | GSoPError, query: PredictQuery, known: float | None, total: float
) -> dict[str, Any]:
    if isinstance(outcome, GSoPError):
        return {"prediction": None, "error": problem(outcome)}
    return {"prediction": _prediction(outcome, query, known, total), "error": None}


def _prediction(
    answer: Classified, query: PredictQuery, known: float | None, total: float
) -> dict[str, Any]:
    return rendering.prediction(
        answer,
        top_k=query.top_k,
        attention=query.attention,
        familiarity=known,
        total_seconds=total,
    )

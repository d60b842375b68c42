"""``POST /predict``: images in, predictions and gates out."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gsop.api.http import rendering
from gsop.api.http.access import caller_of
from gsop.api.http.bodies import read_images
from gsop.api.http.problems import problem
from gsop.api.http.query import parse_query
from gsop.api.http.schemas import PredictQuery
from gsop.api.http.service import Service, watch_of
from gsop.errors import GSoPError
from gsop.keys import KeyScope
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
        settings, caller = service.settings, caller_of(scope)
        if query.attention:
            caller.require(KeyScope.ATTENTION, "attention=true")
        address = request.client.host if request.client else ""
        admitted = service.classifier.admit(
            query.model, query.version, caller, address, request.headers.get
        )
        with admitted as visit:
            images = await read_images(
                request,
                visit.memory,
                max_bytes=settings.max_body_bytes,
                max_images=service.classifier.max_images,
                seconds=settings.body_seconds,
            )
            outcomes = await visit.classify(
                images, top_k=query.top_k, timeout_ms=query.timeout_ms, watch=watch_of(request)
            )
        response = _response(outcomes, query, visit.seconds)
        await response(scope, receive, send)


def _response(outcomes: Outcomes, query: PredictQuery, total: float) -> Response:
    if len(outcomes) > 1:
        results = [_result(outcome, query, total) for outcome in outcomes]
        return rendering.json_response({"results": results})
    return _single(outcomes[0], query, total)


def _single(outcome: Classified | GSoPError, query: PredictQuery, total: float) -> Response:
    if isinstance(outcome, GSoPError):
        raise outcome
    content = _prediction(outcome, query, total)
    timing = rendering.server_timing(content["timing_ms"])
    return rendering.json_response(content, headers={"Server-Timing": timing})


def _result(outcome: Classified | GSoPError, query: PredictQuery, total: float) -> dict[str, Any]:
    if isinstance(outcome, GSoPError):
        return {"prediction": None, "error": problem(outcome)}
    return {"prediction": _prediction(outcome, query, total), "error": None}


def _prediction(answer: Classified, query: PredictQuery, total: float) -> dict[str, Any]:
    return rendering.prediction(
        answer, top_k=query.top_k, attention=query.attention, total_seconds=total
    )

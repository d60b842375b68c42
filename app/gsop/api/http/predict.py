"""``POST /predict``: images in, predictions and gates out."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from gsop.api.http import rendering
from gsop.api.http.access import caller_of
from gsop.api.http.bodies import FIELD, read_images
from gsop.api.http.problems import documented, problem
from gsop.api.http.schemas import Prediction, PredictQuery, Results
from gsop.api.http.service import Answer, ServiceDep, while_connected
from gsop.arena.counters import STAGE_SECONDS
from gsop.errors import (
    BodyTimeout,
    BodyTooLarge,
    ClientOverloaded,
    DeadlineExceeded,
    DeviceOutOfMemory,
    Draining,
    EngineCrashed,
    GSoPError,
    ImageTooLarge,
    InvalidImage,
    InvalidParameter,
    NonFiniteOutput,
    NotReady,
    Overloaded,
    RequestError,
    UnknownModel,
    UnsupportedMediaType,
)
from gsop.keys import Scope

router = APIRouter(tags=["predict"])

_EXAMPLE: dict[str, Any] = {
    "id": "k3vPz0eXy4mFh2QbT7aN",
    "model": {"name": "digits", "version": "1"},
    "predictions": [
        {"class_id": 7, "label": "7", "probability": 0.98},
        {"class_id": 1, "label": "1", "probability": 0.01},
    ],
    "attention": None,
    "timing_ms": {"decode": 0.21, "queue": 0.11, "inference": 2.9, "total": 3.6},
}

_BODY = {
    "requestBody": {
        "required": True,
        "description": (
            "One image, raw, as base64 in JSON, or as a multipart field; a multipart body may "
            f"repeat the field `{FIELD}`. JPEG, PNG, WebP, BMP, TIFF, GIF (first frame)."
        ),
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {
                        FIELD: {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                        }
                    },
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {
                        FIELD: {"type": "string", "format": "byte", "description": "Base64."}
                    },
                },
                "example": {FIELD: "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFX…"},
            },
        },
    }
}


@router.post(
    "/predict",
    summary="Classify an image",
    response_model=Prediction | Results,
    response_description="The prediction; for several images, one result each, in their order.",
    responses={
        200: {
            "content": {
                "application/json": {
                    "examples": {
                        "one": {"summary": "One image", "value": _EXAMPLE},
                        "several": {
                            "summary": "Several images, the second one broken",
                            "value": {
                                "results": [
                                    {"prediction": _EXAMPLE, "error": None},
                                    {
                                        "prediction": None,
                                        "error": problem(InvalidImage("the image is cut off")),
                                    },
                                ]
                            },
                        },
                    }
                }
            }
        },
        **documented(
            InvalidImage,
            RequestError,
            UnknownModel,
            BodyTimeout,
            BodyTooLarge,
            ImageTooLarge,
            UnsupportedMediaType,
            InvalidParameter,
            Overloaded,
            ClientOverloaded,
            GSoPError,
            EngineCrashed,
            DeviceOutOfMemory,
            NonFiniteOutput,
            NotReady,
            Draining,
            DeadlineExceeded,
        ),
    },
    openapi_extra=_BODY,
)
async def predict(
    request: Request, query: Annotated[PredictQuery, Query()], service: ServiceDep
) -> Response:
    """Classify one image, or each of several.

    With `attention=true` the answer holds the gates of every stage. Several images in one
    multipart body get several results, each with its own error if it is the bad one.
    """
    began = time.monotonic_ns()
    client, settings, caller = service.client, service.settings, caller_of(request.scope)
    if query.attention:
        caller.require(Scope.ATTENTION, "attention=true")
    model = client.model(query.model, query.version)
    client.check_admission()  # before the body is read: a refusal should cost next to nothing
    with service.bodies.share() as share:
        images = await read_images(
            request,
            share,
            max_bytes=settings.max_body_bytes,
            max_images=min(settings.max_images, client.capacity),
            seconds=settings.body_seconds,
        )
        client.meter.observe(STAGE_SECONDS, _seconds_since(began), "read")
        deadline = began + (query.timeout_ms or settings.timeout_ms) * 1_000_000
        with while_connected(request):
            holder = caller.name or (request.client.host if request.client else "")
            with client.acquire(model, len(images), caller.owner, holder) as slots:
                outcomes = await service.classify_all(
                    images, slots, deadline=deadline, top_k=query.top_k
                )
    total = _seconds_since(began)
    client.meter.observe(STAGE_SECONDS, total, "total")
    if len(outcomes) > 1:
        return rendering.json_response({"results": [_result(o, query, total) for o in outcomes]})
    return _single(outcomes[0], query, total)


def _single(outcome: Answer | GSoPError, query: PredictQuery, total: float) -> Response:
    if isinstance(outcome, GSoPError):
        raise outcome
    content = _prediction(outcome, query, total)
    timing = rendering.server_timing(content["timing_ms"])
    return rendering.json_response(content, headers={"Server-Timing": timing})


def _result(outcome: Answer | GSoPError, query: PredictQuery, total: float) -> dict[str, Any]:
    if isinstance(outcome, GSoPError):
        return {"prediction": None, "error": problem(outcome)}
    return {"prediction": _prediction(outcome, query, total), "error": None}


def _prediction(answer: Answer, query: PredictQuery, total: float) -> dict[str, Any]:
    return rendering.prediction(
        answer, top_k=query.top_k, attention=query.attention, total_seconds=total
    )


def _seconds_since(began: int) -> float:
    return (time.monotonic_ns() - began) / 1e9

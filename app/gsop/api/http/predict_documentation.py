"""What the OpenAPI text says of ``POST /predict``, which is no route of FastAPI's."""

from typing import Annotated, Any

from fastapi import Query
from fastapi.routing import APIRoute

from gsop.api.http.bodies import FIELD
from gsop.api.http.problems import documented, problem
from gsop.api.http.routes import PREDICT
from gsop.api.http.schemas import Prediction, PredictQuery, PreprocessQuery, Results
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
from gsop.images import FORMAT_NAMES

_EXAMPLE: dict[str, Any] = {
    "id": "k3vPz0eXy4mFh2QbT7aN",
    "model": {"name": "digits", "version": "1"},
    "role": "stable",
    "predictions": [
        {"class_id": 7, "label": "7", "probability": 0.98},
        {"class_id": 1, "label": "1", "probability": 0.01},
    ],
    "attention": None,
    "familiarity": None,
    "timing_ms": {"decode": 0.21, "queue": 0.11, "inference": 2.9, "total": 3.6},
}

_BASE64 = {"type": "string", "format": "byte", "description": "Base64, either alphabet."}

_BINARY = {"schema": {"type": "string", "format": "binary"}}

_OPTIONS = {
    name: part
    for name, part in PredictQuery.model_json_schema()["properties"].items()
    if name in PreprocessQuery.model_fields
}

BODY = {
    "requestBody": {
        "required": True,
        "description": (
            "One image or several: raw, as base64 in JSON, or as fields of a form. The bytes tell "
            "what they are; the type is asked only where they do not. "
            f"{', '.join(FORMAT_NAMES)} (first frame; HEIC where the service has the extra `heif`)."
            " Options of the query may come in the body instead."
        ),
        "content": {
            "image/*": _BINARY,
            "application/octet-stream": _BINARY,
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
                    "properties": {
                        FIELD: _BASE64,
                        "images": {"type": "array", "items": _BASE64},
                        **_OPTIONS,
                    },
                },
                "example": {FIELD: "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFX…"},
            },
        },
    }
}


async def predict(query: Annotated[PredictQuery, Query()]) -> None:
    """Classify one image, or each of several.

    With `attention=true` the answer holds the gates of every stage; with `familiarity=true` how
    like its gates are to those of the images that the version was measured on. Several images in
    one body get several results, each with its own error if it is the bad one.
    """


DOCUMENTATION = APIRoute(
    PREDICT,
    predict,
    methods=["POST"],
    tags=["predict"],
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
    openapi_extra=BODY,
)
"""Never served: only read, for its documentation."""

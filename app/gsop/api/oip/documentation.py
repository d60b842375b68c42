"""What the OpenAPI text says of the inference call, which is no route of FastAPI's."""

from fastapi.routing import APIRoute

from gsop.api.http.problems import documented
from gsop.api.oip.body import LENGTH_HEADER
from gsop.api.oip.rest import INFER, path_parameters
from gsop.api.oip.schemas import InferInput, InferRequestedOutput, InferResponse
from gsop.errors import (
    BodyTimeout,
    BodyTooLarge,
    ClientOverloaded,
    DeadlineExceeded,
    DeviceOutOfMemory,
    Draining,
    EngineCrashed,
    Forbidden,
    GSoPError,
    ImageTooLarge,
    InvalidImage,
    NonFiniteOutput,
    NotReady,
    Overloaded,
    RequestError,
    UnknownModel,
    UnsupportedMediaType,
)

_EXAMPLE = {
    "id": "42",
    "inputs": [
        {"name": "image", "shape": [1], "datatype": "BYTES", "data": ["iVBORw0KGgoAAAANSUhEUg…"]}
    ],
    "outputs": [{"name": "probabilities", "parameters": {"classification": 3}}],
}

_SCHEMA = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {
            "type": "object",
            "description": "`timeout`, in microseconds. `binary_data_output`: all outputs raw.",
        },
        "inputs": {"type": "array", "items": InferInput.model_json_schema()},
        "outputs": {
            "type": "array",
            "items": InferRequestedOutput.model_json_schema(),
            "description": "None: all.",
        },
    },
}


async def infer() -> None:
    """Classify images by the Open Inference Protocol, version 2.

    `image` is BYTES: one image file an element, as base64 in JSON. Or `pixels`: UINT8 from 0 to 255
    or FP32 from 0 to 1, `[N, 3, height, width]`, as the network sees them. All outputs, gates among
    them, are answered unless some are named. One bad image fails the request.
    """


def _route(path: str) -> APIRoute:
    header = {
        "name": LENGTH_HEADER,
        "in": "header",
        "description": "Bytes of the JSON, where raw tensors follow it.",
        "schema": {"type": "integer", "minimum": 0},
    }
    return APIRoute(
        path,
        infer,
        methods=["POST"],
        tags=["open inference protocol"],
        summary="Classify images",
        response_model=InferResponse,
        responses={
            200: {
                "content": {"application/octet-stream": {}},
                "description": "The outputs, as JSON or with raw tensors behind it.",
            },
            **documented(
                *(RequestError, InvalidImage, UnknownModel, Forbidden, BodyTimeout, BodyTooLarge),
                *(ImageTooLarge, UnsupportedMediaType, Overloaded, ClientOverloaded, GSoPError),
                *(EngineCrashed, DeviceOutOfMemory, NonFiniteOutput, NotReady, Draining),
                DeadlineExceeded,
            ),
        },
        openapi_extra={
            "parameters": [*path_parameters(path), header],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": _SCHEMA,
                        "example": _EXAMPLE,
                    },
                    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
                },
            },
        },
    )


ROUTES = [_route(path) for path in INFER]
"""Never served: only read, for their documentation."""

"""Errors as RFC 9457 problems: ``application/problem+json``."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from gsop.api.http.schemas import Problem
from gsop.errors import (
    BodyTimeout,
    GSoPError,
    InvalidParameter,
    RequestError,
    SetupError,
    Unauthorized,
    Unavailable,
)

log = logging.getLogger("gsop.front")

ERROR_CODE = "gsop.error"
"""Where the scope of a request has the code of what it was answered with."""

MEDIA_TYPE = "application/problem+json"

BY_STATUS = {
    400: (RequestError.code, RequestError.title),
    404: ("not_found", "Not found"),
    405: ("method_not_allowed", "Method not allowed"),
}
"""Code and title of what the router itself refuses, by its status."""


def problem(error: GSoPError) -> dict[str, Any]:
    """The members of the problem that ``error`` is."""
    # A SetupError's text is for the operator; it names files.
    detail = "the service is not set up right" if isinstance(error, SetupError) else error.shown
    return Problem(
        title=error.title, status=error.status, detail=detail, code=error.code
    ).model_dump()


def problem_response(error: GSoPError, **members: Any) -> Response:
    """The answer that ``error`` gets; ``members`` extend the problem."""
    headers = {}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, BodyTimeout):
        # Without this the server would wait for the rest of the body on.
        headers["Connection"] = "close"
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(
        problem(error) | members, error.status, headers=headers, media_type=MEDIA_TYPE
    )


def internal_error() -> Response:
    """The answer to a request that ran into a defect; what it was is in the log only."""
    return problem_response(GSoPError("the request could not be answered; the fault is logged"))


def add_handlers(app: FastAPI) -> None:
    """Have every error answered as a problem."""
    app.add_exception_handler(GSoPError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)


def error_response(error: GSoPError) -> Response:
    """The answer that ``error`` gets; what an operator must know is logged."""
    if isinstance(error, SetupError):
        log.error("%s", error)
    elif error.status == 500:
        log.error("the request failed: %s", error.code)
    return problem_response(error)


def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GSoPError)  # noqa: S101  # registered for this class
    request.scope[ERROR_CODE] = error.code
    return error_response(error)


def _on_validation_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for this class
    reasons = "; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors())
    return problem_response(InvalidParameter(reasons))


def _on_http_exception(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this class
    code, title = BY_STATUS.get(error.status_code, ("http_error", "HTTP error"))
    body = Problem(title=title, status=error.status_code, detail=str(error.detail), code=code)
    return JSONResponse(
        body.model_dump(), error.status_code, headers=error.headers, media_type=MEDIA_TYPE
    )


def document_refusals(operation: dict[str, Any], *errors: type[GSoPError]) -> None:
    """Add to an operation of the OpenAPI text what a layer before its route may answer."""
    for status, entry in documented(*errors).items():
        content = entry["content"][MEDIA_TYPE]
        content["schema"] = {"$ref": "#/components/schemas/Problem"}
        added = {"description": entry["description"], "content": entry["content"]}
        there = operation["responses"].setdefault(str(status), added)
        if there is not added:
            there["content"][MEDIA_TYPE]["examples"] |= content["examples"]
            there["description"] += " · " + entry["description"]


def documented(*errors: type[GSoPError]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's ``responses`` for the errors that a call can answer with."""
    responses: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        entry = responses.setdefault(
            error.status,
            {
                "model": Problem,
                "description": error.title,
                "content": {MEDIA_TYPE: {"examples": {}}},
            },
        )
        entry["content"][MEDIA_TYPE]["examples"][error.code] = {
            "summary": (error.__doc__ or "").splitlines()[0],
            "value": Problem(
                title=error.title,
                status=error.status,
                detail=(error.__doc__ or "").splitlines()[0],
                code=error.code,
            ).model_dump(),
        }
        if issubclass(error, Unavailable):
            entry["headers"] = {
                "Retry-After": {
                    "description": "Seconds after which a new try makes sense.",
                    "schema": {"type": "integer"},
                }
            }
    for entry in responses.values():
        examples = entry["content"][MEDIA_TYPE]["examples"]
        entry["description"] = " · ".join(f"`{code}`" for code in examples)
    return responses

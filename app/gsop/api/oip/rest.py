"""The Open Inference Protocol over HTTP: the calls below ``/v2``.

Triton's and KServe's clients send no ``Content-Type``, and bodies where others send none, so the
calls look at bodies themselves.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gsop.api.http.access import caller_of
from gsop.api.http.bodies import LARGE_BYTES, refuse_compressed
from gsop.api.http.body_limits import BodyLimits, gather, gather_small
from gsop.api.http.health import healthz, readyz
from gsop.api.http.models import stored_versions
from gsop.api.http.problems import documented
from gsop.api.http.rendering import json_response
from gsop.api.http.routes import (
    V2,
    V2_ALL_STATISTICS,
    V2_INDEX,
    V2_LIVE,
    V2_LOAD,
    V2_MODEL,
    V2_READY,
    V2_UNLOAD,
    V2_VERSION,
)
from gsop.api.http.service import Service, ServiceDep, watch_of
from gsop.api.oip import body, metadata, repository
from gsop.api.oip.inference import infer
from gsop.api.oip.schemas import (
    IndexEntry,
    ModelMetadata,
    ModelReady,
    ServerMetadata,
    Statistics,
)
from gsop.api.oip.statistics import statistics
from gsop.errors import (
    BodyTimeout,
    BodyTooLarge,
    Conflict,
    Draining,
    LoadFailed,
    NotReady,
    RequestError,
    UnknownModel,
)
from gsop.serving.engines import LoadedModel

log = logging.getLogger("gsop.front")
router = APIRouter(tags=["open inference protocol"])

LONGEST_NAME = 64
"""Of a model or version; a longer one is that of none."""

Name = Annotated[str, Path(json_schema_extra={"maxLength": LONGEST_NAME})]

INFER = (f"{V2_MODEL}/infer", f"{V2_VERSION}/infer")


class Infer:
    """``POST /v2/models/{name}/infer``, as a plain ASGI application, as ``POST /predict`` is."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; what cannot be answered is raised."""
        request = Request(scope, receive, send)
        service: Service = scope["app"].state.service
        settings, caller = service.settings, caller_of(scope)
        name, version = _asked(request)
        address = request.client.host if request.client else ""
        admitted = service.classifier.admit(name, version, caller, address, request.headers.get)
        with admitted as visit:
            refuse_compressed(request)
            content = await gather(request, visit.memory, BodyLimits.of(settings))
            length = request.headers.get(body.LENGTH_HEADER)
            if body.json_bytes(length, len(content)) < LARGE_BYTES:
                asked = body.parse(content, length)
            else:
                asked = await run_in_threadpool(body.parse, content, length)
            answer = await infer(
                visit,
                asked,
                name=name,
                caller=caller,
                most=service.classifier.max_images,
                watch=watch_of(request),
            )
        await _response(*body.write(answer))(scope, receive, send)


def _response(content: bytes, length: int | None) -> Response:
    if length is None:
        return Response(content, media_type="application/json")
    headers = {body.LENGTH_HEADER: str(length)}
    return Response(content, media_type="application/octet-stream", headers=headers)


def _asked(request: Request) -> tuple[str, str | None]:
    """The model and the version that a path names."""
    return request.path_params["name"], request.path_params.get("version")


def _found(request: Request, service: Service) -> LoadedModel:
    return metadata.find(service, *_asked(request))


# ── the service ──────────────────────────────────────────────────────────────────────────────────


@router.get(V2, summary="The server", response_model=ServerMetadata)
async def server() -> dict[str, Any]:
    """Name, version, and which extensions of the protocol there are."""
    return metadata.server()


@router.get(V2_LIVE, summary="Liveness", response_class=Response, responses=documented(NotReady))
async def live(service: ServiceDep) -> Response:
    """As `GET /healthz`."""
    found = await healthz(service)
    return found if isinstance(found, Response) else json_response({"live": True})


@router.get(
    V2_READY,
    summary="Readiness",
    response_class=Response,
    responses=documented(NotReady, Draining),
)
async def ready(service: ServiceDep) -> Response:
    """As `GET /readyz`."""
    found = await readyz(service)
    return found if isinstance(found, Response) else json_response({"ready": True})


# ── a model ──────────────────────────────────────────────────────────────────────────────────────


async def model_metadata(request: Request, service: ServiceDep) -> dict[str, Any]:
    """Inputs and outputs. Gates are among them where the key has the scope `attention`."""
    return metadata.model(service, _found(request, service), caller_of(request.scope))


async def model_ready(request: Request, service: ServiceDep) -> Response | dict[str, Any]:
    """Whether the version that is named, or the model's stable one, takes requests."""
    found = await readyz(service)
    if isinstance(found, Response):
        return found
    return {"name": _found(request, service).manifest.name, "ready": True}


async def model_config(request: Request, service: ServiceDep) -> dict[str, Any]:
    """What Triton's clients ask for to know shapes and the largest batch."""
    return metadata.config(service, _found(request, service), caller_of(request.scope))


async def model_statistics(request: Request, service: ServiceDep) -> dict[str, Any]:
    """How often a version answered, and how long that took."""
    return statistics(service, [_found(request, service)])


@router.get(V2_ALL_STATISTICS, summary="Statistics of all versions", response_model=Statistics)
async def all_statistics(service: ServiceDep) -> dict[str, Any]:
    """How often each loaded version answered, and how long that took."""
    return statistics(service, service.engines.models)


def _add(what: str, summary: str, endpoint: Callable[..., Awaitable[Any]], model: Any) -> None:
    """A call for a model, and the same for one of its versions."""
    for path in (V2_MODEL, V2_VERSION):
        router.add_api_route(
            path + what,
            endpoint,
            methods=["GET"],
            summary=summary,
            response_model=model,
            responses=documented(UnknownModel, NotReady, Draining),
            openapi_extra={"parameters": path_parameters(path)},
        )


def path_parameters(path: str) -> list[dict[str, Any]]:
    """What the OpenAPI text says of a path's own parameters."""
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "maxLength": LONGEST_NAME},
        }
        for name in ("name", "version")
        if f"{{{name}}}" in path
    ]


_add("", "A model", model_metadata, ModelMetadata)
_add("/ready", "Readiness of a model", model_ready, ModelReady)
_add("/config", "Configuration of a model", model_config, dict[str, Any])
_add("/stats", "Statistics of a model", model_statistics, Statistics)


# ── the repository ───────────────────────────────────────────────────────────────────────────────


@router.post(
    V2_INDEX,
    summary="The store's versions",
    response_model=list[IndexEntry],
    responses=documented(RequestError, BodyTimeout, BodyTooLarge),
)
async def index(request: Request, service: ServiceDep) -> list[dict[str, str]]:
    """Every version in the store or loaded; with `{"ready": true}` only those that are ready."""
    asked = await _members(request)
    stored = await run_in_threadpool(stored_versions, service)
    return metadata.index(service, stored, ready_only=asked.get("ready") is True)


@router.post(
    V2_LOAD,
    summary="Load a model",
    response_class=Response,
    responses=documented(
        RequestError, BodyTimeout, BodyTooLarge, UnknownModel, Conflict, LoadFailed, NotReady
    ),
)
async def load(request: Request, name: Name, service: ServiceDep) -> Response:
    """Load the store's newest version of a model, or the one of the parameter `version`.

    It gets requests at once if the model had no version before; else as `PUT
    /models/{name}/traffic` says.
    """
    version = _version(await _members(request))
    await repository.load(service, name, version, caller_of(request.scope))
    return Response()


@router.post(
    V2_UNLOAD,
    summary="Unload a model",
    response_class=Response,
    responses=documented(
        RequestError, BodyTimeout, BodyTooLarge, UnknownModel, Conflict, LoadFailed, NotReady
    ),
)
async def unload(request: Request, name: Name, service: ServiceDep) -> Response:
    """Unload all versions of a model, or the one of the parameter `version`."""
    version = _version(await _members(request))
    await repository.unload(service, name, version, caller_of(request.scope))
    return Response()


async def _members(request: Request) -> dict[str, Any]:
    """A small body: a JSON object, or nothing."""
    refuse_compressed(request)
    text = await gather_small(request, request.app.state.service.settings)
    try:
        members = orjson.loads(text or b"{}")
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not JSON ({error})") from error
    if not isinstance(members, dict):
        raise RequestError("the body must be a JSON object, or empty")
    return members


def _version(members: dict[str, Any]) -> str | None:
    parameters = members.get("parameters", {})
    version = parameters.get("version") if isinstance(parameters, dict) else None
    if version is not None and not isinstance(version, str):
        raise RequestError("the parameter 'version' must be a text")
    return version

"""Calls that change which versions are loaded and how requests are spread: for operators."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response

from gsop.api.http.access import caller_of
from gsop.api.http.problems import documented
from gsop.api.http.routes import COMPARISON, LOAD, PROMOTE, ROLLBACK, TRAFFIC, UNLOAD
from gsop.api.http.schemas import Comparisons, LoadOptions, TrafficNow, VersionNow
from gsop.api.http.service import ServiceDep
from gsop.api.http.small_bodies import SmallBodyRoute
from gsop.errors import (
    BodyTimeout,
    BodyTooLarge,
    Conflict,
    InvalidParameter,
    LoadFailed,
    NotReady,
    PreconditionFailed,
    PreconditionRequired,
    RequestError,
    UnknownModel,
)
from gsop.serving.control import Load, Promote, Rollback, SetTraffic, Unload
from gsop.serving.traffic import Traffic

router = APIRouter(tags=["versions"], route_class=SmallBodyRoute)

ModelName = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
VersionName = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=1000,
        description="The `ETag` of `GET /models/{name}`: the state that is changed.",
    ),
]


@router.post(
    LOAD,
    summary="Load a version",
    responses=documented(
        *(RequestError, BodyTimeout, BodyTooLarge, UnknownModel, Conflict, LoadFailed),
        *(InvalidParameter, NotReady),
    ),
)
async def load(
    request: Request,
    name: ModelName,
    version: VersionName,
    service: ServiceDep,
    options: LoadOptions | None = None,
) -> VersionNow:
    """Verify a version of the store, warm it up, and have it beside those that serve.

    Answers when it is ready; what serves is not touched before, nor if it fails. Of a model that
    had no version it gets all requests, of another one none, until its traffic says so.
    """
    options = options or LoadOptions()
    order = Load(
        name=name,
        version=version,
        who=_who(request),
        unload_first=options.policy == "resource",
        sha256=options.sha256,
    )
    return _version(service, await service.order(order))


@router.post(
    UNLOAD,
    summary="Unload a version",
    responses=documented(UnknownModel, Conflict, LoadFailed, InvalidParameter, NotReady),
)
async def unload(
    request: Request,
    name: ModelName,
    version: VersionName,
    service: ServiceDep,
    force: Annotated[
        bool, Query(description="Take the share of a canary or a shadow from it first.")
    ] = False,
) -> VersionNow:
    """Give up a version that gets no requests. What it has begun to answer is answered."""
    order = Unload(name=name, version=version, who=_who(request), force=force)
    return _version(service, await service.order(order))


@router.put(
    TRAFFIC,
    summary="Spread a model's requests over its versions",
    responses=documented(
        RequestError,
        BodyTimeout,
        BodyTooLarge,
        UnknownModel,
        Conflict,
        PreconditionFailed,
        PreconditionRequired,
        InvalidParameter,
        NotReady,
    ),
)
async def traffic(
    request: Request,
    response: Response,
    name: ModelName,
    wanted: Traffic,
    service: ServiceDep,
    if_match: IfMatch = None,
) -> TrafficNow:
    """Change the shares, from the next request on. All versions that are named must be loaded."""
    if if_match is None:
        raise PreconditionRequired(
            "say what you change: send the ETag of GET /models/{name} as If-Match, or * for "
            "whatever there is"
        )
    order = SetTraffic(name=name, who=_who(request), traffic=wanted, revision=_revision(if_match))
    return _shares(response, await service.order(order))


@router.post(
    PROMOTE,
    summary="Make the canary the stable version",
    responses=documented(UnknownModel, Conflict, PreconditionFailed, InvalidParameter, NotReady),
)
async def promote(
    request: Request,
    response: Response,
    name: ModelName,
    service: ServiceDep,
    if_match: IfMatch = None,
) -> TrafficNow:
    """Have the canary answer all requests; the version before stays loaded, to go back to."""
    order = Promote(name=name, who=_who(request), revision=_revision(if_match))
    return _shares(response, await service.order(order))


@router.post(
    ROLLBACK,
    summary="Go back",
    responses=documented(UnknownModel, Conflict, PreconditionFailed, InvalidParameter, NotReady),
)
async def rollback(
    request: Request,
    response: Response,
    name: ModelName,
    service: ServiceDep,
    if_match: IfMatch = None,
) -> TrafficNow:
    """Take the canary's share; without one, make the stable version before this one stable again.

    Everything stays loaded, to be looked at.
    """
    order = Rollback(name=name, who=_who(request), revision=_revision(if_match))
    return _shares(response, await service.order(order))


@router.get(
    COMPARISON,
    summary="Versions beside each other",
    responses=documented(UnknownModel, InvalidParameter),
)
async def comparison(name: ModelName, service: ServiceDep) -> Comparisons:
    """The stable version beside the canary and the shadow, since each became one.

    Both answer the same images where slots are free for it; intervals hold with 95 % confidence.
    """
    if name not in service.generations.routing.models:
        raise UnknownModel(f"no version of {name!r} is loaded; GET /models lists what is")
    found = service.generations.status.comparisons.get(name, ())
    return Comparisons(model=name, comparisons=list(found))


def tag(revision: int) -> str:
    """The entity tag of a model's traffic."""
    return f'"{revision}"'


def _revision(if_match: str | None) -> int | None:
    """The revision that a header names; ``None`` if it names none, or any."""
    if if_match is None or if_match.strip() == "*":
        return None
    text = if_match.strip().removeprefix("W/").strip('"')
    if not text.isdecimal() or len(text) > 18:
        raise PreconditionFailed(
            "If-Match is no tag of GET /models/{name}: look again, then decide"
        )
    return int(text)


def _who(request: Request) -> str:
    return caller_of(request.scope).name or "anybody"


def _version(service: ServiceDep, done: dict[str, Any]) -> VersionNow:
    memory = service.generations.status.memory_bytes
    return VersionNow(**done, engines_memory_bytes=memory)


def _shares(response: Response, done: dict[str, Any]) -> TrafficNow:
    response.headers["ETag"] = tag(done["revision"])
    return TrafficNow(**done["traffic"], revision=done["revision"])

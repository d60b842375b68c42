"""The ASGI application: routes, errors, and what lives as long as the process."""

import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match, Route
from starlette.types import Scope

import gsop
from gsop.api.http import (
    attention,
    drift,
    health,
    inspect,
    models,
    pages,
    predict_documentation,
    preprocess,
    problems,
    status,
    versions,
)
from gsop.api.http.access import Access, document_access
from gsop.api.http.browsers import Browsers, answered_hosts, document_browsers
from gsop.api.http.certificate import expiry
from gsop.api.http.doorway import Doorway
from gsop.api.http.predict import Predict
from gsop.api.http.routes import PREDICT, ROUTES
from gsop.api.http.service import Service
from gsop.api.http.telemetry import Telemetry
from gsop.api.oip import documentation, rest
from gsop.api.oip.errors import ErrorMember, document_errors
from gsop.api.oip.grpc_beside import GrpcBeside
from gsop.api.tracing import check as check_tracing
from gsop.api.tracing import open_tracer
from gsop.arena.block import Role
from gsop.arena.exemplars import Exemplars
from gsop.arena.service import ServiceMemory
from gsop.serving.callers import Callers
from gsop.serving.classify import Classifier
from gsop.serving.decoding import Fork
from gsop.serving.gates import GateQuestions
from gsop.serving.generation import Arenas, Generations
from gsop.serving.operator import Operator, Start
from gsop.serving.supervisor import Supervisor
from gsop.settings import Settings

DESCRIPTION = """
Image classification with GSoP-ResNets: networks whose stages are gated by *global second-order
pooling*, channel attention computed from the covariance of the channels (CVPR 2019).

`POST /predict` classifies an image; `GET /attention` shows what the gates do.
Where the operator has set API keys, send yours as `Authorization: Bearer KEY`.
Errors are `application/problem+json` (RFC 9457) with a stable `code`.
"""


@dataclass(frozen=True)
class FrontProcess:
    """What a front was given by its supervisor.

    Attributes:
        memory: the service's, as a front sees it.
        arenas: those of the generations, as they come.
        incarnation: which process of that front this is.
        fork: has decoders forked.
    """

    memory: ServiceMemory
    arenas: Arenas
    incarnation: int
    fork: Fork


def create_app(front: FrontProcess | None = None) -> FastAPI:
    """The application.

    Args:
        front: what the supervisor that started this process gave it. Without one (``uvicorn
            gsop.api.http.app:create_app --factory``) the application starts its own engines from
            the environment's settings and stops them at its end.
    """
    if front is not None:
        settings = front.memory.settings
    else:
        settings = Settings.load().model_copy(update={"fronts": 1})
    check_tracing()
    certificate = settings.tls_certfile
    expires = expiry(certificate) if certificate is not None else None  # now: see cage_front()
    grpc = GrpcBeside(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if front is not None:
            async with _serving(app, front, expires, grpc):
                yield
            return
        start = Start(settings)
        with (
            Supervisor(settings, start.manifests, routes=ROUTES) as supervisor,
            _readiness_off_at_sigterm(supervisor),
            Operator(supervisor, start),
        ):
            supervisor.start_engines()
            memory = ServiceMemory.attach(os.dup(supervisor.memory.fd), Role("front"))
            arenas = Arenas(memory.role)
            arenas.take(os.dup(supervisor.present.arena.fd))
            supervisor.take_arena = lambda descriptor: arenas.take(os.dup(descriptor))
            process = FrontProcess(memory, arenas, 1, supervisor.fork_decoder)
            async with _serving(app, process, expires, grpc):
                yield

    app = FastAPI(
        title="GSoP-ResNet service",
        version=gsop.__version__,
        summary="Predictions, and the attention gates behind them.",
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own pages load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # the doorway's work: these would name a host and a port
        license_info={"name": "MIT", "identifier": "MIT"},
    )
    _add_middleware(app, settings)
    _add_routes(app)
    _document(app, settings.root_path)
    return app


def _add_middleware(app: FastAPI, settings: Settings) -> None:
    """The layers around the routes, from the innermost."""
    if settings.api_keys:
        app.add_middleware(Access)
    if settings.cors_origins:
        # Outside of the keys: a browser's preflight request cannot carry one.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST", "PUT"),
            allow_headers=("Authorization", "Content-Type", "If-Match", "X-Request-Id"),
            expose_headers=(
                "ETag",
                "X-Request-Id",
                "Server-Timing",
                "Retry-After",
                "traceresponse",
            ),
        )
    app.add_middleware(Browsers, hosts=answered_hosts(settings), origins=settings.cors_origins)
    app.add_middleware(Doorway, root_path=settings.root_path)
    app.add_middleware(Telemetry, log_requests=settings.log_requests)
    app.add_middleware(ErrorMember)
    problems.add_handlers(app)


class PlainRoute(Route):
    """A route without FastAPI's work, that says which it is as FastAPI's do."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether it is this one, and what its handler is told."""
        match, told = super().matches(scope)
        return match, {**told, "route": self}


def _add_routes(app: FastAPI) -> None:
    app.router.routes.insert(0, PlainRoute(PREDICT, Predict(), methods=["POST"]))
    for path in rest.INFER:
        app.router.routes.insert(1, PlainRoute(path, rest.Infer(), methods=["POST"]))
    own = (attention, models, versions, drift, health, status, preprocess, inspect, pages)
    for module in (*own, rest):
        app.include_router(module.router)


def _document(app: FastAPI, root_path: str) -> None:
    """Have the OpenAPI text tell of all calls, and refuse one that would not be counted."""
    documented = [predict_documentation.DOCUMENTATION, *app.routes, *documentation.ROUTES]

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                license_info=app.license_info,
                servers=[{"url": root_path}] if root_path else None,
                routes=documented,
            )
            document_access(app.openapi_schema)
            document_browsers(app.openapi_schema)
            document_errors(app.openapi_schema)
            if undeclared := app.openapi_schema["paths"].keys() - set(ROUTES):
                raise RuntimeError(f"calls that routes.py does not declare: {undeclared}")
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it


@asynccontextmanager
async def _serving(
    app: FastAPI, front: FrontProcess, certificate_expires: float | None, grpc: GrpcBeside
) -> AsyncIterator[None]:
    async with Generations(
        front.memory, front.arenas, front.incarnation, front.fork
    ) as generations:
        classifier, gates = Classifier(generations), GateQuestions(generations)
        tracer = open_tracer(generations.meter)
        app.state.service = service = Service(
            generations,
            classifier,
            gates,
            Callers(front.memory),
            Exemplars(front.memory),
            certificate_expires,
            tracer,
        )
        async with grpc.serving(service):
            generations.serve()
            yield
        if tracer is not None:
            tracer.close()


class _readiness_off_at_sigterm:  # noqa: N801  # reads as a verb where it is used
    """Have SIGTERM turn readiness off before the server begins to wait for its requests."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._previous: Callable[[int, FrameType | None], Any] | int | None = None

    def __enter__(self) -> None:
        # Only the main thread may handle signals; some servers run the application in another.
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._handle)

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._supervisor.request_stop()
        if callable(self._previous):
            self._previous(number, frame)

"""The ASGI application: routes, errors, and what lives as long as the process."""

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import RedirectResponse

import gsop
from gsop.api.http import attention, health, models, predict, problems
from gsop.api.http.access import Access, document_access
from gsop.api.http.direct import DirectPredict
from gsop.api.http.service import Service
from gsop.api.http.telemetry import Telemetry
from gsop.arena.layout import Arena
from gsop.serving.client import EngineClient
from gsop.serving.decoder import Plan
from gsop.serving.decoders import Decoders
from gsop.serving.supervisor import Supervisor
from gsop.settings import Settings
from gsop.store.catalog import resolve

DESCRIPTION = """
Image classification with GSoP-ResNets: networks whose stages are gated by *global second-order
pooling*, channel attention computed from the covariance of the channels (CVPR 2019).

`POST /predict` classifies an image; `GET /attention` shows what the gates do.
Where the operator has set API keys, send yours as `Authorization: Bearer KEY`.
Errors are `application/problem+json` (RFC 9457) with a stable `code`.
"""


def create_app(arena: Arena | None = None, front: int = 0) -> FastAPI:
    """The application.

    Args:
        arena: of the supervisor that started this process. Without one (``uvicorn
            gsop.api.http.app:create_app --factory``) the application starts its own engines from
            the environment's settings and stops them at its end.
        front: which of the front processes this is.
    """
    if arena is not None:
        settings = arena.deployment.settings
    else:
        settings = Settings.load().model_copy(update={"fronts": 1})

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if arena is not None:
            async with _serving(app, arena, front):
                yield
            return
        manifests = [resolve(settings.model_store, name) for name in settings.models]
        with Supervisor(settings, manifests) as supervisor, _readiness_off_at_sigterm(supervisor):
            supervisor.start_engines()
            async with _serving(app, supervisor.arena, 0):
                yield

    app = FastAPI(
        title="GSoP-ResNet service",
        version=gsop.__version__,
        summary="Predictions, and the attention gates behind them.",
        description=DESCRIPTION,
        lifespan=lifespan,
        license_info={"name": "MIT", "identifier": "MIT"},
    )
    app.add_middleware(DirectPredict)  # the innermost: all others see its requests
    if settings.api_keys:
        app.add_middleware(Access, keys=settings.api_keys)
    if settings.cors_origins:
        # Outside of the keys: a browser's preflight request cannot carry one.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization", "Content-Type", "X-Request-Id"),
            expose_headers=("X-Request-Id", "Server-Timing", "Retry-After"),
        )
    app.add_middleware(Telemetry, log_requests=settings.log_requests)
    problems.add_handlers(app)
    for module in (predict, attention, models, health):
        app.include_router(module.router)
    document_access(app)

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("docs")

    return app


@asynccontextmanager
async def _serving(app: FastAPI, arena: Arena, front: int) -> AsyncIterator[None]:
    settings, manifests = arena.deployment.settings, arena.deployment.manifests
    plan = Plan(
        process=f"decoder of front {front}",
        specs=tuple(manifest.input for manifest in manifests),
        max_pixels=settings.max_image_pixels,
        max_bytes=settings.max_body_bytes,
        seconds=settings.decode_seconds,
        log_level=settings.log_level,
        log_format=settings.log_format,
    )
    async with EngineClient(arena, front) as client:
        with Decoders(plan, settings.decoder_count, client.meter) as decoders:
            app.state.service = Service(client, settings, decoders)
            yield


class _readiness_off_at_sigterm:  # noqa: N801  # reads as a verb where it is used
    """Have SIGTERM turn readiness off before the server begins to wait for its requests."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._previous: Callable[[int, FrameType | None], Any] | int | None = None

    def __enter__(self) -> None:
        self._previous = signal.signal(signal.SIGTERM, self._handle)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._supervisor.request_stop()
        if callable(self._previous):
            self._previous(number, frame)

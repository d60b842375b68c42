"""The service on Ray Serve: each replica a whole instance, with one front, on one device.

    serve run deploy.ray.app:app                    # on this machine, from the project's folder
    serve deploy deploy/ray/config.yaml             # on a cluster

Batches stay the service's own: Ray only passes requests on, as many at once as there are slots. It
needs Ray (`pip install 'ray[serve]'`) beside the package, on each node.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from ray import serve  # type: ignore[import-not-found]  # not among the packages of the tests

SLOTS = 256
"""``GSOP_SLOTS``: the requests that a replica takes at once."""

IN_USE = 32
"""Of them, how many of each replica ask for no other: what ``gsop size`` calls slots in use."""

START_SECONDS = 300.0
"""How long a replica may take to be ready; Ray then starts another in its place."""


def build() -> FastAPI:
    """The application. Called on the replica, so nothing of it has to be sent there."""
    import asyncio

    from gsop.api.http.app import create_app
    from gsop.api.http.health import unreadiness

    app = create_app()
    starting = app.router.lifespan_context

    @asynccontextmanager
    async def until_ready(app: FastAPI) -> AsyncIterator[None]:
        # To Ray a replica takes requests as soon as this has begun.
        async with starting(app):
            async with asyncio.timeout(START_SECONDS):
                while unreadiness(app.state.service) is not None:  # noqa: ASYNC110  # another process's
                    await asyncio.sleep(0.05)
            yield

    app.router.lifespan_context = until_ready
    return app


class Replica:
    """What Ray asks beside requests."""

    app: Any  # the application, by the base that Ray gives it

    def check_health(self) -> None:
        """Raise if the replica is to be replaced; of engines that die the service takes care."""
        from gsop.api.http.health import is_alive

        if not is_alive(self.app.state.service):
            raise RuntimeError("the service has failed; its log says why")


deployment = serve.deployment(
    serve.ingress(build)(Replica),
    name="gsop",
    max_ongoing_requests=SLOTS,  # Ray's own five would starve the batches
    max_queued_requests=2 * SLOTS,  # of more Ray answers 503 by itself
    health_check_period_s=5,
    graceful_shutdown_wait_loop_s=1,
    graceful_shutdown_timeout_s=40,  # above GSOP_DRAIN_SECONDS
    autoscaling_config={
        "min_replicas": 1,
        "max_replicas": 4,
        "target_ongoing_requests": IN_USE,
        "upscale_delay_s": 30,
        "downscale_delay_s": 600,
    },
    ray_actor_options={"num_cpus": 2},
)
app = deployment.bind()

"""The service on Ray Serve: each replica a whole instance, with one front, on one device.

    serve run deploy.ray.app:app                    # on this machine, from the project's folder
    serve deploy deploy/ray/config.yaml             # on a cluster

Batches stay the service's own: Ray only passes requests on, as many at once as there are slots. It
needs Ray (`pip install 'ray[serve]'`) beside the package, on each node.
"""

from fastapi import FastAPI
from ray import serve

SLOTS = 256
"""``GSOP_SLOTS``: the requests that a replica takes at once."""


def build() -> FastAPI:
    """The application. Called on the replica, so nothing of it has to be sent there."""
    from gsop.api.http.app import create_app

    return create_app()


app = serve.deployment(
    serve.ingress(build)(),
    name="gsop",
    max_ongoing_requests=SLOTS,  # Ray's own five would starve the batches
    max_queued_requests=2 * SLOTS,  # of more Ray answers 503 by itself
    health_check_period_s=5,
    graceful_shutdown_wait_loop_s=1,
    graceful_shutdown_timeout_s=40,  # above GSOP_DRAIN_SECONDS
    autoscaling_config={
        "min_replicas": 1,
        "max_replicas": 4,
        "target_ongoing_requests": SLOTS // 2,
        "upscale_delay_s": 30,
        "downscale_delay_s": 600,
    },
    ray_actor_options={"num_cpus": 2},
).bind()

"""Ray Serve: an HTTP proxy in Python, replicas with ``@serve.batch``."""

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.peers.common import MAX_BATCH, Options, Work, options, parser, to_json

made = parser()
made.add_argument("--replicas", type=int, default=1)


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.1})
class Classifier:
    """Decodes in threads, then batches."""

    def __init__(self, chosen: Options) -> None:
        self._work, self._pool = Work(chosen), ThreadPoolExecutor(2)
        self._device = ThreadPoolExecutor(1)

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=0.001)
    async def _infer(self, images: list[Any]) -> list[dict[str, Any]]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._device, self._work.answers, images)

    async def __call__(self, request: Request) -> Response:
        """One request."""
        body, loop = await request.body(), asyncio.get_running_loop()
        image = await loop.run_in_executor(self._pool, self._work.decode, body)
        return Response(to_json(await self._infer(image)), media_type="application/json")


if __name__ == "__main__":
    given = made.parse_args()
    # Only the loopback interface: nothing that a token would guard. And nothing is reported.
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    ray.init(
        _node_ip_address="127.0.0.1", include_dashboard=False, configure_logging=False, num_cpus=4
    )
    serve.start(http_options={"host": "127.0.0.1", "port": given.port})
    serve.run(
        Classifier.options(num_replicas=given.replicas).bind(options(given)),
        route_prefix="/predict",
    )
    signal.signal(signal.SIGTERM, lambda *_: (serve.shutdown(), ray.shutdown(), exit(0)))
    signal.pause()

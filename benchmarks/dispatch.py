"""What it costs to come to a route and back, in CPU microseconds a request.

    python -m benchmarks.dispatch

The application with all of its middlewares answers an empty response at ``/predict``: once by the
plain route that is served, once by a route of FastAPI's with the same query and dependency. The
price of the endpoint alone is taken off both. All three in turns; the best round of each, since all
that disturbs adds.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks import models
from benchmarks.in_process import Memories, application
from benchmarks.serve import save
from benchmarks.summary import markdown
from gsop.api.http.app import PlainRoute
from gsop.api.http.routes import PREDICT
from gsop.api.http.schemas import PredictQuery
from gsop.api.http.service import ServiceDep

CALLS = 2000

QUERY = b"top_k=3&attention=true"


class Empty:
    """An endpoint that answers nothing at once."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        await Response()(scope, receive, send)


def plain(memories: Memories) -> FastAPI:
    """The application with the empty endpoint in the place of the served one."""
    app = application(memories)
    app.router.routes[0] = PlainRoute(PREDICT, Empty(), methods=["POST"])
    return app


def by_fastapi(memories: Memories) -> FastAPI:
    """With a route of FastAPI's in its place."""
    app = application(memories)

    @app.post(PREDICT)
    async def predict(query: Annotated[PredictQuery, Query()], service: ServiceDep) -> Response:
        return Response()

    app.router.routes[0] = app.router.routes.pop()
    return app


async def _ask(app: ASGIApp, owner: FastAPI) -> None:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": PREDICT,
        "raw_path": PREDICT.encode(),
        "query_string": QUERY,
        "root_path": "",
        "scheme": "http",
        "headers": [(b"host", b"127.0.0.1"), (b"content-length", b"0")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
        "app": owner,
    }

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start" and message["status"] != 200:
            raise RuntimeError(f"the application answered {message!r}")

    await app(scope, receive, send)


def measure(rounds: int) -> dict[str, float]:
    """CPU microseconds of each way, without the endpoint's own."""
    with tempfile.TemporaryDirectory(prefix="gsop-bench-") as folder:
        models.publish_models(Path(folder))
        memories = Memories.of(Path(folder))
    served, fastapi = plain(memories), by_fastapi(memories)
    ways: dict[str, Callable[[], Any]] = {
        "endpoint": lambda: _ask(Empty(), served),
        "plain route": lambda: _ask(served, served),
        "FastAPI's route": lambda: _ask(fastapi, fastapi),
    }
    best = dict.fromkeys(ways, float("inf"))

    async def main() -> None:
        for _ in range(rounds):
            for name, ask in ways.items():
                began = time.process_time()
                for _ in range(CALLS):
                    await ask()
                best[name] = min(best[name], (time.process_time() - began) / CALLS * 1e6)

    asyncio.run(main())
    own = best.pop("endpoint")
    return {name: us - own for name, us in best.items()}


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--name", help="of the result's file; not written if empty")
    chosen = parser.parse_args()
    found = measure(chosen.rounds)
    print(markdown(("way to the endpoint", "CPU µs"), [[n, f"{v:.0f}"] for n, v in found.items()]))
    if chosen.name:
        print(f"saved {save(chosen.name, {'setting': vars(chosen), 'us': found})}")


if __name__ == "__main__":
    main()

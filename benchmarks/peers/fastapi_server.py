"""Plain FastAPI under uvicorn (uvloop, httptools): a thread pool, no batching."""

import threading

import uvicorn
from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from benchmarks.peers.common import Work, options, parser, to_json

made = parser()
made.add_argument("--workers", type=int, default=1)


def create_app() -> FastAPI:
    """One worker's app; it reads the command line again, as its parent did."""
    work, lock = Work(options(made.parse_args())), threading.Lock()
    app = FastAPI()

    def classify(body: bytes) -> bytes:
        image = work.decode(body)
        with lock:
            (answer,) = work.answers([image])
        return to_json(answer)

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        body = await request.body()
        answer = await run_in_threadpool(classify, body)
        return Response(answer, media_type="application/json")

    return app


if __name__ == "__main__":
    given = made.parse_args()
    uvicorn.run(
        "benchmarks.peers.fastapi_server:create_app",
        factory=True,
        port=given.port,
        workers=given.workers,
        access_log=False,
        log_level="warning",
    )

"""Where a request's CPU time goes: each part alone, then all of them in a server under load.

    python -m benchmarks.profile

The parts run in this process, one after the other, with nothing around them, in CPU microseconds;
the best of several rounds, since all that disturbs adds. The server's processes are read from /proc
while wrk loads it with the ``null`` model: what they take beyond their parts goes to sockets,
wake-ups and the kernel.
"""

import argparse
import asyncio
import itertools
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
from fastapi import FastAPI

from benchmarks import bodies, closed_loop, models
from benchmarks.null import NullPredictor
from benchmarks.serve import save
from benchmarks.servers import ROLES, Server, ours
from benchmarks.summary import markdown
from gsop.api.http.app import create_app
from gsop.api.http.service import Service
from gsop.arena.counters import COUNTERS
from gsop.arena.layout import Arena, Deployment
from gsop.engine.worker import Job, Peer, Worker
from gsop.images import centred, decode
from gsop.model.resnet import GSoPResNet
from gsop.serving.client import EngineClient
from gsop.serving.decoders import ALLOCATOR
from gsop.serving.link import EngineLink, Waiter
from gsop.settings import Settings
from gsop.store.catalog import resolve

ROUNDS = 5
CALLS = 200


def best_us(call: Callable[[], object], calls: int = CALLS) -> float:
    """CPU microseconds of a call, in the best round."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(calls):
            call()
        best = min(best, (time.process_time() - began) / calls * 1e6)
    return best


def decoding(body: bytes) -> dict[str, float]:
    """The helper's part."""
    pixels = simplejpeg.decode_jpeg(body, "RGB")
    return {
        "decode: JPEG to pixels": best_us(lambda: simplejpeg.decode_jpeg(body, "RGB")),
        "decode: cut and resize": best_us(lambda: centred(pixels, models.INPUT)),
        "decode: all": best_us(lambda: decode(body, models.INPUT, max_pixels=10**9)),
    }


def arena_of(store: Path) -> Arena:
    """A front's and an engine's arena, without their processes."""
    settings = Settings.model_validate({"model_store": store, "models": ("null",), "fronts": 1})
    manifests = (resolve(store, "null"),)
    arena = Arena.create(
        Deployment(settings=settings, manifests=manifests, address="\0none", counters=COUNTERS)
    )
    arena.engines["epoch"] = 1
    return arena


class _NoDecoder:
    """Takes the place of :class:`gsop.serving.decoders.Decoders`."""

    async def decode(self, *_: object, **__: object) -> None:
        """The pixels are there already."""
        await asyncio.sleep(0)


class _InstantLink(EngineLink):
    """Takes the place of an engine that is done at once."""

    is_ready = True

    def send(self, waiter: Waiter) -> None:
        """Answer in the loop's next round."""
        asyncio.get_running_loop().call_soon(waiter.finish)


async def _post(app: FastAPI, body: bytes, query: bytes) -> None:
    """One request, as uvicorn would make it."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/predict",
        "raw_path": b"/predict",
        "query_string": query,
        "root_path": "",
        "scheme": "http",
        "headers": [
            (b"host", b"127.0.0.1"),
            (b"content-type", b"image/jpeg"),
            (b"content-length", str(len(body)).encode()),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    body_read = False
    never = asyncio.Event()
    sent: list[Any] = []

    async def receive() -> Any:
        nonlocal body_read
        if body_read:
            await never.wait()
        body_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await asyncio.create_task(app(scope, receive, send))
    if sent[0]["status"] != 200:
        raise RuntimeError(f"the application answered {sent!r}")


def application(arena: Arena, body: bytes) -> dict[str, float]:
    """The front's part above HTTP: middlewares, route, slots, JSON."""
    app = create_app(arena, 0)
    client = EngineClient(arena, 0)
    client._links = [_InstantLink(arena, 0, client.meter, lambda _: None)]
    app.state.service = Service(client, arena.deployment.settings, _NoDecoder())  # type: ignore[arg-type]
    loop = asyncio.new_event_loop()
    try:
        # FastAPI takes the last of a repeated parameter; the direct way leaves it to FastAPI.
        return {
            f"front: application{note}": best_us(
                lambda query=query: loop.run_until_complete(_post(app, body, query))  # type: ignore[misc]
            )
            for note, query in (("", b""), (", FastAPI's way", b"top_k=5&top_k=5"))
        }
    finally:
        loop.close()


def engine(arena: Arena) -> dict[str, float]:
    """The engine's part, without the network: batches, answers, records, statistics."""
    manifest = arena.deployment.manifests[0]
    predictor = NullPredictor(
        manifest,
        GSoPResNet(manifest.config),
        device=torch.device("cpu"),
        dtype=torch.float32,
        max_batch=32,
    )
    sockets = [*socket.socketpair(), *socket.socketpair()]
    mine, theirs, listener, lifeline = sockets
    worker, peer, numbers = (
        Worker(arena, 0, [predictor], listener, lifeline),
        Peer(mine),
        itertools.count(1),
    )
    fields = arena.fields
    fields["deadline"][:] = np.iinfo(np.int64).max

    def batch(size: int) -> None:
        for slot in range(size):
            ticket = next(numbers)
            fields["ticket"][slot], fields["id"][slot] = ticket, b"%d" % ticket
            worker._queue.append(Job(peer, slot, ticket, alone=False))
        chosen = worker._next_batch()
        if chosen is None:
            raise RuntimeError("the engine found nothing to do")
        worker._launch(*chosen)
        worker._finish(worker._flying.popleft())
        theirs.recv(1 << 16)

    try:
        return {
            f"engine: a batch of {size}, an image's share": best_us(partial(batch, size)) / size
            for size in (1, 8, 32)
        }
    finally:
        for end in sockets:
            end.close()


def server(store: Path, body: bytes, seconds: float) -> dict[str, float]:
    """Each process under load, CPU microseconds a request."""
    kind = ours()
    with Server(kind, "null", store, body) as running:
        load = {"connections": 16}
        closed_loop.run(running.url, body, kind.headers, seconds=1, **load)
        before = running.seconds_by_role()
        seen = closed_loop.run(running.url, body, kind.headers, seconds=seconds, **load)
        after = running.seconds_by_role()
    result = {f"process {r}": (after[r] - before[r]) / seen.requests * 1e6 for r in ROLES}
    return result | {"all processes": sum(result.values())}


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5, help="of load")
    parser.add_argument("--name", help="of the result's file; not written if empty")
    chosen = parser.parse_args()
    body = bodies.jpeg("small")
    with tempfile.TemporaryDirectory(prefix="gsop-bench-") as folder:
        store = Path(folder)
        models.publish_models(store)
        arena = arena_of(store)
        parts = decoding(body) | application(arena, body) | engine(arena)
        parts |= server(store, body, chosen.seconds)
    print(markdown(("part", "CPU µs a request"), [[n, f"{v:.0f}"] for n, v in parts.items()]))
    if chosen.name:
        print(f"saved {save(chosen.name, {'setting': vars(chosen), 'us': parts})}")


if __name__ == "__main__":
    if not ALLOCATOR.keys() <= os.environ.keys():  # as the helpers have it; read when Python starts
        os.execve(sys.executable, sys.orig_argv, os.environ | ALLOCATOR)  # noqa: S606  # ourselves
    torch.set_num_threads(1)
    main()

"""Where a request's CPU time goes: each part alone, then all of them in a server under load.

    python -m benchmarks.profile

The parts run in this process, one after the other, with nothing around them, in CPU microseconds;
the best of several rounds, since all that disturbs adds. The server's processes are read from /proc
while wrk loads it with the ``null`` model: what they take beyond their parts goes to sockets,
wake-ups and the kernel.
"""

import argparse
import asyncio
import socket
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import simplejpeg
import torch
from fastapi import FastAPI

from benchmarks import bodies, closed_loop, models
from benchmarks.in_process import ENGINE, FRONT, Memories, application
from benchmarks.serve import save
from benchmarks.servers import ROLES, Server, ours
from benchmarks.summary import markdown
from gsop.arena.board import EngineBoard
from gsop.arena.counters import Meter
from gsop.arena.layout import Arena
from gsop.arena.messages import Kind, Message
from gsop.arena.service import ServiceMemory
from gsop.arena.slot import FrontSlots
from gsop.backends.base import Place
from gsop.backends.null import NullBackend
from gsop.engine.inbox import Inbox, Peer, Received
from gsop.engine.worker import Worker
from gsop.images import centred, decode
from gsop.processes.memory import keep_freed_blocks
from gsop.serving.decoder import KEPT_BYTES

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


def front(memories: Memories, body: bytes) -> dict[str, float]:
    """The front's part above HTTP: middlewares, route, slots, JSON."""
    app = application(memories)
    loop = asyncio.new_event_loop()
    try:
        return {
            "front: application": best_us(lambda: loop.run_until_complete(_post(app, body, b"")))
        }
    finally:
        loop.close()


def engine(memories: Memories) -> dict[str, float]:
    """The engine's part, without the network: batches, answers, records, statistics."""
    hand = Arena.attach(memories.arena.fd, ENGINE)
    meter = Meter(ServiceMemory.attach(memories.service.fd, ENGINE))
    slots = FrontSlots(Arena.attach(memories.arena.fd, FRONT))
    backend = NullBackend.open(Path(), hand.deployment.manifests[0], Place(max_batch=32))
    listener, lifeline, mine, theirs = (*socket.socketpair(), *socket.socketpair())
    inbox = Inbox(listener, lifeline)
    worker, peer = Worker(hand, EngineBoard(hand, 1), [backend], inbox, meter), Peer(mine)
    held = [slots.hold(0, 0) for _ in range(32)]

    def batch(size: int) -> None:
        now = time.monotonic_ns()
        for slot in held[:size]:
            slots.renew(slot.number)
            ticket = slots.submit(
                slot.number, id=f"{now}-{slot.number}", top_k=5, deadline=2 * now, submitted=now
            )
            worker.take(Received(peer, Message(Kind.INFER, slot.number, ticket)))
        worker.work()
        theirs.recv(1 << 16)

    try:
        return {
            f"engine: a batch of {size}, an image's share": best_us(partial(batch, size)) / size
            for size in (1, 8, 32)
        }
    finally:
        inbox.__exit__()
        for end in (listener, lifeline, mine, theirs):
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
        memories = Memories.of(store)
        parts = decoding(body) | front(memories, body) | engine(memories)
        parts |= server(store, body, chosen.seconds)
    print(markdown(("part", "CPU µs a request"), [[n, f"{v:.0f}"] for n, v in parts.items()]))
    if chosen.name:
        print(f"saved {save(chosen.name, {'setting': vars(chosen), 'us': parts})}")


if __name__ == "__main__":
    keep_freed_blocks(KEPT_BYTES)  # as decoders do
    torch.set_num_threads(1)
    main()

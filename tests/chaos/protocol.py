"""The Open Inference Protocol, attacked, and under engines that are killed.

python -m tests.chaos.protocol --bodies 20000 --seconds 60
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np

from gsop.api.http.routes import GRPC_SERVICE
from gsop.api.oip import inference_pb2 as pb
from tests.api.oip.hostile import Body, body, hostile_body, hostile_message, message, parts
from tests.api.oip.test_grpc import address_of
from tests.chaos.clients import read_answer, where
from tests.chaos.deaths import check_at_rest, engine_of, fronts_of, ticks
from tests.chaos.memory import resident_bytes
from tests.chaos.report import Report
from tests.stores import publish_tiny
from tests.support import Server, eventually, random_pngs

CLIENTS = 8
MOST_GROWTH = 128 * 2**20
"""Of a front's memory."""

DEFECTS = {"500", "502", "503", "504", "INTERNAL", "UNKNOWN", "UNAVAILABLE"}
"""What none of them may be answered with."""

SEED = 1
PATH = "/v2/models/tiny/infer"
GOOD = random_pngs(1)[0]


def attack(store: Path, count: int) -> Report:
    """Bodies that lie, 8 at a time, then a quarter as many messages; good ones beside both."""
    report = Report()
    with Server(store, models="tiny", grpc_port=0) as server, calls(server) as call:
        ways: dict[str, Callable[[], tuple[Counter[str], int]]] = {
            "bodies": lambda: asyncio.run(_send_bodies(server, count)),
            "messages": lambda: _send_messages(call, count // 4),
        }
        for name, way in ways.items():
            with watched(server) as peak:
                seen, wrong = way()
            grew = f"{peak[0] / 2**20:.0f} MB"
            told = {name: dict(sorted(seen.items())), f"good_beside_{name}_wrong": wrong}
            report.note(**told, **{f"front_grew_by_{name}": grew})
            report.check(not seen.keys() & DEFECTS, f"{name} are answered as by a defect")
            report.check(not wrong, f"good ones beside {name} are answered otherwise")
            report.check(peak[0] < MOST_GROWTH, f"the front grew by {name}")
        check_at_rest(server, report)
    return report


def kill_engine(store: Path, seconds: float) -> Report:
    """An engine killed each 3 s under requests of both kinds: none fails."""
    report, kills, over = Report(), 0, threading.Event()
    with Server(store, models="tiny", grpc_port=0) as server, calls(server) as call:
        ways: dict[str, Callable[[], bytes]] = {
            "rest": lambda: _ask(server, _good_body()),
            "grpc": lambda: _outputs(call(_good())),
        }
        right = {name: way() for name, way in ways.items()}
        found = {name: Counter[str]() for name in ways}

        def ask(name: str) -> None:
            while not over.is_set():
                try:
                    what = "right" if _same(ways[name](), right[name]) else "wrong"
                except (grpc.RpcError, httpx.HTTPError, AssertionError) as error:
                    what = repr(error)[:200]
                found[name][what] += 1

        askers = [threading.Thread(target=ask, args=(name,)) for name in ways for _ in range(4)]
        for asker in askers:
            asker.start()
        for _ in ticks(seconds):
            os.kill(eventually(lambda: engine_of(server)), signal.SIGKILL)
            kills += 1
        eventually(lambda: server.http.get("/readyz").status_code == 200)
        over.set()
        for asker in askers:
            asker.join()
        eventually(lambda: server.metric("gsop_engine_restarts_total") >= kills)
        report.note(kills=kills, **{name: dict(seen) for name, seen in found.items()})
        for name, seen in found.items():
            report.check(set(seen) == {"right"}, f"{name}: {dict(seen)}")
            report.check(seen["right"] > kills, f"hardly anything was answered by {name}")
        check_at_rest(server, report)
    return report


@contextmanager
def calls(server: Server) -> Iterator[Any]:
    """``ModelInfer`` of a service that is ready, as a call from bytes to bytes."""
    with grpc.insecure_channel(address_of(server.wait_ready())) as channel:
        grpc.channel_ready_future(channel).result(60)
        call = channel.unary_unary(f"/{GRPC_SERVICE}/ModelInfer")
        yield lambda data: call(data, timeout=60)


@contextmanager
def watched(server: Server) -> Iterator[list[int]]:
    """The most bytes by which the front has grown meanwhile; looked at each 20 ms."""
    (front,) = fronts_of(server)
    began, grown, over = resident_bytes(front), [0], threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            grown[0] = max(grown[0], resident_bytes(front) - began)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield grown
    finally:
        over.set()
        watcher.join()


async def _send_bodies(server: Server, count: int) -> tuple[Counter[str], int]:
    """How often they were answered with which status; and how many good ones wrongly."""
    chance, seen, left = random.Random(SEED), Counter[str](), iter(range(count))  # noqa: S311
    right, wrong = _ask(server, _good_body()), 0

    async def client() -> None:
        nonlocal wrong
        connection = None
        for at in left:
            is_good = at % 100 == 0
            content, length = _good_body() if is_good else hostile_body(chance, GOOD)
            if connection is None:
                connection = await asyncio.open_connection(*where(server.url))
            reader, writer = connection
            told = "" if length is None else f"Inference-Header-Content-Length: {length}\r\n"
            head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n"
            writer.write(f"{head}{told}\r\n".encode() + content)
            status, answer, closes = await asyncio.wait_for(read_answer(reader), 60)
            if closes:
                writer.close()
                connection = None
            if is_good:
                wrong += status != 200 or not _same(answer[-len(right) :], right)
            else:
                seen[str(status)] += 1
        if connection is not None:
            connection[1].close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return seen, wrong


def _send_messages(call: Callable[[bytes], bytes], count: int) -> tuple[Counter[str], int]:
    """The same over gRPC, with the names of its codes."""
    chance, seen, wrong = random.Random(SEED), Counter[str](), 0  # noqa: S311
    right = _outputs(call(_good()))
    for at in range(count):
        try:
            call(hostile_message(chance, GOOD).replace(b"\x06digits", b"\x04tiny", 1))
            seen["OK"] += 1
        except grpc.RpcError as error:
            seen[error.code().name] += 1
        if at % 100 == 0:
            wrong += not _same(_outputs(call(_good())), right)
    return seen, wrong


def _ask(server: Server, asked: Body) -> bytes:
    """The raw tensors of the answer."""
    headers = {"Inference-Header-Content-Length": str(asked[1])}
    answer = server.http.post(PATH, content=asked[0], headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.content[int(answer.headers["Inference-Header-Content-Length"]) :]


def _same(some: bytes, others: bytes) -> bool:
    """Whether probabilities are the same but for what the size of a batch changes."""
    one, two = (np.frombuffer(raw, "<f4") for raw in (some, others))
    return one.shape == two.shape and np.allclose(one, two, atol=1e-5)


def _good_body() -> Body:
    members, raw = parts(GOOD)
    del members["outputs"][0]["parameters"]["classification"]
    return body(members, raw)


def _good() -> bytes:
    made = message(GOOD)
    made.model_name = "tiny"
    return bytes(made.SerializeToString())


def _outputs(answer: bytes) -> bytes:
    return b"".join(pb.ModelInferResponse.FromString(answer).raw_output_contents)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all, print, and say whether all holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bodies", type=int, default=20_000, help="and a quarter as many messages")
    parser.add_argument("--seconds", type=float, default=60, help="of killing engines")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        publish_tiny(Path(folder))
        reports = {
            "v2-attack": attack(Path(folder), chosen.bodies),
            "v2-kill-engine": kill_engine(Path(folder), chosen.seconds),
        }
    for name, report in reports.items():
        print(report.show(name))
    return int(any(report.faults for report in reports.values()))


if __name__ == "__main__":
    sys.exit(main())

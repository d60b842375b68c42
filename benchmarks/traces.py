"""What traces cost: processor time a request, and what callers notice while a collector fails.

    python -m benchmarks.traces

First what is done for a request's trace alone, the thread that sends included, in this process:
the best round of each way, in turns, since all that disturbs adds; beside it what
:mod:`benchmarks.dispatch` measures, by which machines can be compared. Then all of it: servers that
differ in their traces alone stand side by side and get the load for a second in turn: without
traces, with those of one request in a hundred, with all, and with all while the collector is slow,
hangs, or refuses. The model is ``null``.
"""

import argparse
import contextlib
import dataclasses
import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import cast
from unittest.mock import patch

from prometheus_client.parser import text_string_to_metric_families

from benchmarks import bodies, models
from benchmarks.dispatch import measure
from benchmarks.in_process import FRONT, Memories
from benchmarks.serve import save
from benchmarks.servers import Server, ours
from benchmarks.summary import markdown
from benchmarks.turns import Way
from gsop.api.spans import OtelTracer
from gsop.api.tracing import Ended
from gsop.arena.counters import Meter
from gsop.arena.service import ServiceMemory
from gsop.serving.classify import Visit

SLOW_SECONDS, HANGING_SECONDS = 1.0, 3600.0

ONE_IN_A_HUNDRED = {
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "0.01",
}


CALLS = 200
"""Traces a round: fewer spans than may wait."""


def _request() -> Ended:
    """A request of one image, as it is when it is over."""
    now = time.monotonic_ns()
    answer = SimpleNamespace(
        submitted=now,
        started=now,
        finished=now,
        id="a3f0c1.0123456789abcdef0123",
        engine=0,
        batch=1,
    )
    way = SimpleNamespace(began=now, decoded=now, inference=answer)
    model = SimpleNamespace(manifest=SimpleNamespace(name="digits", version="1"))
    visit = SimpleNamespace(
        began=now, read=now, answered=now, ways=[way], model=model, role="stable"
    )
    attributes: dict[str, str | int] = {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "network.protocol.version": "1.1",
    }
    return Ended("POST /predict", attributes, failed=False, visit=cast("Visit", visit))


def own_cost(rounds: int) -> dict[str, float]:
    """CPU microseconds of a request's trace, sampled or not."""
    with tempfile.TemporaryDirectory(prefix="gsop-bench-") as folder:
        models.publish_models(Path(folder))
        memories = Memories.of(Path(folder))
    memory = ServiceMemory.attach(memories.service.fd, FRONT)
    ended, headers = _request(), dict[str, str]()
    with collector(0) as url, contextlib.ExitStack() as stack:
        tracers = {}
        for name, more in {"1 in 100": ONE_IN_A_HUNDRED, "all": {}}.items():
            with patch.dict(os.environ, {"OTEL_EXPORTER_OTLP_ENDPOINT": url, **more}):
                tracers[name] = OtelTracer(Meter(memory))
            stack.callback(tracers[name].close)
        best = dict.fromkeys(tracers, float("inf"))
        for _ in range(rounds):
            for name, tracer in tracers.items():
                began = time.process_time()
                for _ in range(CALLS):
                    trace = tracer.begin("POST", headers.get)
                    _ = trace.header
                    trace.end(ended)
                tracer.flush()
                best[name] = min(best[name], (time.process_time() - began) / CALLS * 1e6)
    return best


class Cost(Way):
    """A way, and what it took beside another."""

    def above(self, other: Way) -> list[float]:
        """CPU microseconds of the front for a request above the other's, round by round."""
        return [a["front"] - b["front"] for a, b in zip(self.roles, other.roles, strict=True)]

    def lost(self) -> float:
        """Spans that no collector got so far."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.server.text("/metrics"))
            for sample in family.samples
            if sample.name == "gsop_spans_lost_total"
        )


@contextlib.contextmanager
def collector(delay: float) -> Iterator[str]:
    """The address of a process that takes spans and answers after ``delay`` seconds."""

    class Sink(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(delay)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Sink) as server:
        process = multiprocessing.get_context("fork").Process(
            target=server.serve_forever, daemon=True
        )
        process.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            process.kill()
            process.join()


@contextlib.contextmanager
def nobody() -> Iterator[str]:
    """The address of a port that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@contextlib.contextmanager
def all_ways(store: Path, body: bytes) -> Iterator[list[Cost]]:
    """The servers, running."""
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        works, slow = enter(collector(0)), enter(collector(SLOW_SECONDS))
        hangs, refuses = enter(collector(HANGING_SECONDS)), enter(nobody())
        environments: dict[str, Mapping[str, str]] = {
            "none": {},
            "1 in 100": {"OTEL_EXPORTER_OTLP_ENDPOINT": works, **ONE_IN_A_HUNDRED},
            "all": {"OTEL_EXPORTER_OTLP_ENDPOINT": works},
            "all, slow collector": {"OTEL_EXPORTER_OTLP_ENDPOINT": slow},
            "all, hanging collector": {"OTEL_EXPORTER_OTLP_ENDPOINT": hangs},
            "all, no collector": {"OTEL_EXPORTER_OTLP_ENDPOINT": refuses},
        }
        ways = []
        for name, environment in environments.items():
            kind = ours(fronts="1")
            kind = dataclasses.replace(kind, environment={**kind.environment, **environment})
            ways.append(Cost(name, enter(Server(kind, "null", store, body))))
        yield ways


def table(ways: Sequence[Cost]) -> str:
    """A row for each way; the first is what the others are compared with."""
    rows = []
    for way in ways:
        above = way.above(ways[0])
        rows.append(
            [
                way.name,
                f"{median(roles['front'] for roles in way.roles):.0f}",
                f"{median(above):.0f} ({min(above):.0f} to {max(above):.0f})",
                f"{median(way.p99s):.1f} ({min(way.p99s):.1f} to {max(way.p99s):.1f})",
                f"{way.server.memory_bytes() / 1e6:.0f}",
                f"{way.lost():.0f}",
            ]
        )
    header = ("traces", "front, CPU µs", "above none", "p99 ms", "MB", "spans lost")
    return markdown(header, rows)


def main(arguments: Sequence[str] | None = None) -> list[Cost]:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=1, help="of load, each turn")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--name", help="of the result's file; not written if empty")
    chosen = parser.parse_args(arguments)
    own = own_cost(30) | {"a route and back, for comparison": measure(9)["plain route"]}
    print(markdown(("traces", "CPU µs"), [[name, f"{us:.1f}"] for name, us in own.items()]))
    body = bodies.jpeg("small")
    with tempfile.TemporaryDirectory(prefix="gsop-bench-") as folder:
        models.publish_models(Path(folder))
        with all_ways(Path(folder), body) as ways:
            for number in range(chosen.rounds + 1):
                for way in ways:
                    way.turn(body, chosen.connections, chosen.seconds)
                    if not number:  # the first turn warms up
                        way.rates, way.p99s, way.roles = [], [], []
            print(f"{chosen.connections} connections, {chosen.rounds} rounds")
            print(table(ways))
    if chosen.name:
        content = [{"way": w.name, "rates": w.rates, "p99_ms": w.p99s, "us": w.roles} for w in ways]
        print(
            f"saved {save(chosen.name, {'setting': vars(chosen), 'own_us': own, 'ways': content})}"
        )
    return ways


if __name__ == "__main__":
    main()

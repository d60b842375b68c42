"""Servers under load, side by side: throughput, latency, CPU time, memory, batch sizes, errors.

    python -m benchmarks.serve --model null --servers gsop mosec-stages fastapi
    python -m benchmarks.serve --model digits --rounds 1 --seconds 2

Each round starts every server in turn (A B C, A B C, ...), loads it with wrk from the same machine,
and ends it; figures are medians of the rounds. Server and load share the processors, so the first
figure is the CPU time that all of a server's processes took for a request. Everything goes to
``benchmarks/results/`` as JSON, and to the terminal as a table.
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import bodies, closed_loop, machine, models
from benchmarks.servers import Kind, Server, ours, peer
from benchmarks.summary import figure, markdown

RESULTS = Path(__file__).parent / "results"

KINDS: dict[str, Kind] = {
    "gsop": ours(),
    "gsop-2": ours("gsop-2", fronts="2", torch_threads="1"),
    "mosec-stages": peer("mosec", layout="stages"),
    "mosec-one": peer("mosec", layout="one"),
    "litserve": peer("litserve", workers="1"),
    "litserve-2": peer("litserve", workers="2"),
    "ray": peer("ray", replicas="1"),
    "ray-2": peer("ray", replicas="2"),
    "fastapi": peer("fastapi", workers="1"),
    "fastapi-2": peer("fastapi", workers="2"),
    "pytriton": peer("pytriton", delay_us="0"),
    "pytriton-1ms": peer("pytriton", delay_us="1000"),
}


@dataclass(frozen=True)
class Round:
    """One server, loaded once.

    Attributes:
        rate: successful answers a second.
        cpu_ms: CPU milliseconds a request, of all the server's processes.
        memory_mb: PSS of all of them, right after the load.
        batch: mean images a batch; ``None`` where the server does not tell.
        ready_seconds: from the command to the first right answer.
    """

    rate: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    cpu_ms: float
    memory_mb: float
    batch: float | None
    errors: int
    ready_seconds: float


def measure(
    kind: Kind,
    model: str,
    store: Path,
    body: bytes,
    *,
    connections: int,
    seconds: float,
    threads: int = 1,
) -> Round:
    """Start, warm up, load by ``threads`` of wrk, end."""
    with Server(kind, model, store, body) as server:
        load = {"connections": connections, "threads": threads}
        closed_loop.run(server.url, body, kind.headers, seconds=1, **load)
        batches, meter = mean_batch(server), server.cpu()
        seen = closed_loop.run(server.url, body, kind.headers, seconds=seconds, **load)
        cpu = meter.seconds()
        return Round(
            rate=seen.rate,
            p50_ms=seen.p50_ms,
            p90_ms=seen.p90_ms,
            p99_ms=seen.p99_ms,
            cpu_ms=cpu / max(1, seen.requests) * 1000,
            memory_mb=server.memory_bytes() / 2**20,
            batch=_ratio(batches, mean_batch(server)),
            errors=seen.errors,
            ready_seconds=server.ready_seconds,
        )


def mean_batch(server: Server) -> tuple[float, float] | None:
    """Images and batches so far, where the server counts them."""
    if not server.kind.name.startswith("gsop"):
        return None
    text = server.text("/metrics")
    found = [re.search(rf"^gsop_batch_size_{part} (\S+)$", text, re.M) for part in ("sum", "count")]
    return (float(found[0][1]), float(found[1][1])) if found[0] and found[1] else None


def _ratio(before: tuple[float, float] | None, after: tuple[float, float] | None) -> float | None:
    if before is None or after is None or after[1] == before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1])


def table(rounds: dict[str, list[Round]]) -> str:
    """The medians; the server of least CPU time first."""
    rows = []
    for name, seen in sorted(rounds.items(), key=lambda item: median(r.cpu_ms for r in item[1])):
        batches = [r.batch for r in seen if r.batch is not None]
        rows.append(
            [
                name,
                figure([r.cpu_ms for r in seen], 2),
                figure([r.rate for r in seen], 0),
                *(
                    f"{median(getattr(r, key) for r in seen):.1f}"
                    for key in ("p50_ms", "p90_ms", "p99_ms")
                ),
                f"{median(r.memory_mb for r in seen):.0f}",
                f"{median(batches):.1f}" if batches else "",
                str(sum(r.errors for r in seen)),
                f"{median(r.ready_seconds for r in seen):.1f}",
            ]
        )
    header = ("server", "CPU ms/request", "requests/s", "p50 ms", "p90 ms", "p99 ms", "MB (PSS)")
    return markdown((*header, "batch", "errors", "start s"), rows)


def save(name: str, content: dict[str, Any]) -> Path:
    """Write a result with the machine's description beside it."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine.describe(), **content}, indent=1) + "\n")
    return path


def main(arguments: Sequence[str] | None = None) -> dict[str, list[Round]]:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=models.NAMES, default="null")
    parser.add_argument("--body", choices=tuple(bodies.SIZES), default="small")
    parser.add_argument("--servers", nargs="+", choices=tuple(KINDS), default=["gsop"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of load, each round")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--name", help="of the result's file; not written if empty")
    chosen = parser.parse_args(arguments)
    body = bodies.jpeg(chosen.body)
    rounds: dict[str, list[Round]] = {}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="gsop-bench-") as folder:
        models.publish_models(Path(folder))
        for _ in range(chosen.rounds):
            for name in chosen.servers:
                if name in failed:
                    continue
                try:
                    seen = measure(
                        KINDS[name],
                        chosen.model,
                        Path(folder),
                        body,
                        connections=chosen.connections,
                        seconds=chosen.seconds,
                    )
                except (RuntimeError, OSError, ValueError) as error:
                    failed[name] = str(error)
                    print(f"{name}: {error}", file=sys.stderr)
                    continue
                rounds.setdefault(name, []).append(seen)
    print(
        f"model {chosen.model}, body {len(body)} bytes {bodies.SIZES[chosen.body]}, "
        f"{chosen.connections} connections, {chosen.rounds} rounds of {chosen.seconds:g} s"
    )
    print(table(rounds))
    if chosen.name:
        path = save(
            chosen.name,
            {
                "setting": vars(chosen) | {"body_bytes": len(body)},
                "rounds": {name: [asdict(r) for r in seen] for name, seen in rounds.items()},
                "failed": failed,
            },
        )
        print(f"saved {path}")
    return rounds


if __name__ == "__main__":
    main()

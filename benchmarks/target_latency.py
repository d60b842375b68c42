"""Whether ``GSOP_TARGET_LATENCY_MS`` is held: the same open loop, with and without it, in turns.

    python -m benchmarks.target_latency --model digits --rate 150 --targets 0 30

A target can be held where the service keeps up with the rate and a batch of one, twice, takes less
than the target. Latencies count from when a request was due.
"""

import argparse
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import bodies, models, open_loop, serve
from benchmarks.servers import Server, ours
from benchmarks.summary import markdown


def predicted(server: Server) -> dict[str, float]:
    """Milliseconds that the engine expects of a batch: ``fixed``, and for each ``image``."""
    found = re.findall(
        r'^gsop_engine_predicted_seconds\{engine="0",part="(\w+)"\} (\S+)$',
        server.text("/metrics"),
        re.M,
    )
    return {part: 1000 * float(seconds) for part, seconds in found}


def measure(model: str, store: Path, target: int, *, rate: float, seconds: float) -> dict[str, Any]:
    """One server under one load; the first two seconds do not count."""
    body = bodies.jpeg("small")
    kind = ours(target_latency_ms=str(target))
    with Server(kind, model, store, body) as server:
        open_loop.run(server.url, body, kind.headers, rate=rate, seconds=2)
        before = serve.mean_batch(server)
        seen = open_loop.run(server.url, body, kind.headers, rate=rate, seconds=seconds)
        after = serve.mean_batch(server)
        assert before is not None
        assert after is not None
        batch = (after[0] - before[0]) / (after[1] - before[1])
        return {"target_ms": target, "batch": batch, **predicted(server), **asdict(seen)}


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=models.NAMES, default="digits")
    parser.add_argument("--rate", type=float, default=150, help="requests a second")
    parser.add_argument("--targets", type=int, nargs="+", default=[0, 30], help="0: none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--name", help="of the result's file; not written if empty")
    chosen = parser.parse_args(arguments)
    seen: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="gsop-bench-") as folder:
        models.publish_models(Path(folder))
        load = {"rate": chosen.rate, "seconds": chosen.seconds}
        for _ in range(chosen.rounds):
            seen += [
                measure(chosen.model, Path(folder), target, **load) for target in chosen.targets
            ]
    rows = []
    for target in chosen.targets:
        runs = [run for run in seen if run["target_ms"] == target]
        keys = ("goodput", "batch", "p50_ms", "p99_ms", "fixed", "image")
        rows.append([str(target or "none"), *(f"{median(r[k] for r in runs):.1f}" for k in keys)])
    header = ("target ms", "answers/s", "batch", "p50 ms", "p99 ms", "fixed ms", "ms an image")
    print(f"{chosen.model}, {chosen.rate:g} requests/s, {chosen.rounds} rounds")
    print(markdown(header, rows))
    if chosen.name:
        print(f"saved {serve.save(chosen.name, {'setting': vars(chosen), 'runs': seen})}")
    return seen


if __name__ == "__main__":
    main()

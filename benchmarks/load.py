"""Below and above capacity: constant arrivals at 70 % and at 120 % of what a server can do.

    python -m benchmarks.load --model digits --servers gsop fastapi

The generator runs on the same processors, so capacity is what comes out under its own overload, not
under wrk's. The service time is the median latency of one request at a time.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks import bodies, models, open_loop
from benchmarks.open_loop import Open
from benchmarks.serve import KINDS, save
from benchmarks.servers import Kind, Server
from benchmarks.summary import figure, markdown

GROWTH = 1.3
"""By which the offered rate grows until the server no longer keeps up: small, so that the generator
does not take the processors for itself."""

SHARES = (0.7, 1.2)
SINGLE_REQUESTS = 100


@dataclass(frozen=True)
class Round:
    """One server, loaded at each share of its capacity.

    Attributes:
        service_ms: median latency of one request at a time.
        capacity: successful answers a second under overload.
        below: at 70 % of it.
        above: at 120 % of it.
    """

    service_ms: float
    capacity: float
    below: Open
    above: Open


def measure(kind: Kind, model: str, store: Path, body: bytes, seconds: float) -> Round:
    """Start, find the capacity, load, end."""
    with Server(kind, model, store, body) as server:
        times = []
        for _ in range(SINGLE_REQUESTS):
            began = time.perf_counter()
            status, answer = server.ask()
            times.append(time.perf_counter() - began)
            if status != 200:
                raise RuntimeError(f"status {status}: {answer[:200]!r}")

        def load(rate: float) -> Open:
            return open_loop.run(server.url, body, kind.headers, rate=rate, seconds=seconds)

        guess = 1 / median(times)
        while (probe := load(guess)).goodput > 0.9 * guess:
            guess *= GROWTH
        below, above = (load(share * probe.goodput) for share in SHARES)
        return Round(median(times) * 1000, probe.goodput, below, above)


def table(rounds: dict[str, list[Round]]) -> str:
    """A line a server: medians, and half their spread."""
    header = (
        *("server", "capacity/s", "service ms", "p50 at 70 %", "p99 at 70 %", "p99 / service"),
        *("goodput at 120 %", "of capacity", "refused p99 ms", "lost"),
    )
    rows = []
    for name, seen in rounds.items():
        refused = [r.above.refused_p99_ms for r in seen if r.above.refused_p99_ms is not None]
        ratios = [(r.below.p99_ms or 0) / r.service_ms for r in seen]
        rows.append(
            [
                name,
                figure([r.capacity for r in seen], 0),
                f"{median(r.service_ms for r in seen):.1f}",
                f"{median(r.below.p50_ms or 0 for r in seen):.1f}",
                f"{median(r.below.p99_ms or 0 for r in seen):.1f}",
                figure(ratios, 1),
                figure([r.above.goodput for r in seen], 0),
                figure([r.above.goodput / r.capacity for r in seen], 2),
                f"{median(refused):.0f}" if refused else "none",
                str(sum(r.above.statuses.get("0", 0) + r.below.statuses.get("0", 0) for r in seen)),
            ]
        )
    return markdown(header, rows)


def main(arguments: Sequence[str] | None = None) -> dict[str, list[Round]]:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=models.NAMES, default="digits")
    parser.add_argument("--servers", nargs="+", choices=tuple(KINDS), default=["gsop"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each load")
    parser.add_argument("--name", help="of the result's file; not written if empty")
    chosen = parser.parse_args(arguments)
    body = bodies.jpeg("small")
    rounds: dict[str, list[Round]] = {}
    with tempfile.TemporaryDirectory(prefix="gsop-bench-") as folder:
        models.publish_models(Path(folder))
        for _ in range(chosen.rounds):
            for name in chosen.servers:
                try:
                    seen = measure(KINDS[name], chosen.model, Path(folder), body, chosen.seconds)
                except (RuntimeError, OSError) as error:
                    print(f"{name}: {error}", file=sys.stderr)
                    continue
                rounds.setdefault(name, []).append(seen)
                print(json.dumps(asdict(seen)), file=sys.stderr)
    print(f"model {chosen.model}, {chosen.rounds} rounds, {chosen.seconds:g} s at each rate")
    print(table(rounds))
    if chosen.name:
        written = {name: [asdict(r) for r in seen] for name, seen in rounds.items()}
        print(f"saved {save(chosen.name, {'setting': vars(chosen), 'rounds': written})}")
    return rounds


if __name__ == "__main__":
    main()

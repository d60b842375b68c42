"""What one request costs on an idle server, how soon it is ready, and how large a front is.

    python -m benchmarks.idle --model digits

Every figure is a median of several starts. The overhead is the client's wall time for a request,
less the time in which the engine had it: the way there and back, with decoding. Requests follow
each other after a pause, so that nothing is warm that would not be warm on a quiet day; over one
connection, as clients with a pool send them, and in turns each over a connection of its own.
"""

import argparse
import json
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median

from benchmarks import bodies, models
from benchmarks.processes import members, rss_bytes
from benchmarks.serve import save
from benchmarks.servers import Server, ours, role_of
from benchmarks.summary import figure, markdown, percentile

PAUSE_SECONDS = 0.02


def measure(model: str, store: Path, body: bytes, requests: int) -> dict[str, float]:
    """Start a server, ask it one by one, end it."""
    with Server(ours(), model, store, body) as server, closing(server.connect()) as kept:
        totals: dict[bool, list[float]] = {True: [], False: []}
        forwards: dict[bool, list[float]] = {True: [], False: []}
        for number in range(2 * requests):
            reuses = number % 2 == 0
            time.sleep(PAUSE_SECONDS)
            began = time.perf_counter()
            status, answer = server.ask(over=kept if reuses else None)
            totals[reuses].append((time.perf_counter() - began) * 1000)
            if status != 200:
                raise RuntimeError(f"status {status}: {answer[:200]!r}")
            forwards[reuses].append(json.loads(answer)["timing_ms"]["inference"])
        fronts = [pid for pid in members(server.pid, server.mark) if role_of(pid) == "front"]
        overheads = {
            reuses: [total - forward for total, forward in zip(all_, forwards[reuses], strict=True)]
            for reuses, all_ in totals.items()
        }
        return {
            "ready, s": server.ready_seconds,
            "front, MB resident": max(map(rss_bytes, fronts)) / 1e6,
            "fronts with torch": sum("libtorch" in _maps(pid) for pid in fronts),
            "request, ms": median(totals[True]),
            "engine, ms": median(forwards[True]),
            "overhead, ms": median(overheads[True]),
            "overhead p99, ms": percentile(overheads[True], 99),
            "overhead with a new connection, ms": median(overheads[False]),
        }


def _maps(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=models.NAMES, default="digits")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--name", help="of the result's file; not written if empty")
    chosen = parser.parse_args()
    body = bodies.jpeg("small")
    with tempfile.TemporaryDirectory(prefix="gsop-bench-") as folder:
        models.publish_models(Path(folder))
        rounds = [
            measure(chosen.model, Path(folder), body, chosen.requests) for _ in range(chosen.rounds)
        ]
    print(f"model {chosen.model}, {chosen.rounds} starts, {chosen.requests} requests each")
    rows = [[name, figure([seen[name] for seen in rounds], 2)] for name in rounds[0]]
    print(markdown(("what", "figure"), rows))
    if chosen.name:
        print(f"saved {save(chosen.name, {'setting': vars(chosen), 'rounds': rounds})}")


if __name__ == "__main__":
    main()

"""Two or more ways to set the service up, loaded in turns: what a change is worth.

    python -m benchmarks.turns decoders=2 decoders=3
    python -m benchmarks.turns . ../before --model digits

All servers stand side by side, and each gets the load for a second in turn: what else the machine
does, which from one minute to the next may change the price of the same work by a fifth, hits all
of them alike. A setting is one of GSOP_* (several are joined by commas, ``.`` is none); a folder is
another checkout of this project.
"""

import argparse
import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks import bodies, closed_loop, models
from benchmarks.serve import save
from benchmarks.servers import ROLES, Server, checkout, ours
from benchmarks.summary import figure, markdown


@dataclass
class Way:
    """One way, and what each turn of it measured.

    Attributes:
        name: as on the command line.
        server: that runs so.
        rates: successful answers a second.
        p99s: ms.
        roles: CPU microseconds a request, by role.
    """

    name: str
    server: Server
    rates: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)
    roles: list[dict[str, float]] = field(default_factory=list)

    def turn(self, body: bytes, connections: int, seconds: float) -> None:
        """Load it, and write down what it did."""
        before = self.server.seconds_by_role()
        headers = self.server.kind.headers
        seen = closed_loop.run(
            self.server.url, body, headers, connections=connections, seconds=seconds
        )
        after = self.server.seconds_by_role()
        self.rates.append(seen.rate)
        self.p99s.append(seen.p99_ms)
        self.roles.append({r: (after[r] - before[r]) / seen.requests * 1e6 for r in ROLES})

    def row(self) -> list[str]:
        """Of the table."""
        return [
            self.name,
            figure([sum(roles.values()) for roles in self.roles], 0),
            *(f"{median(roles[role] for roles in self.roles):.0f}" for role in ROLES[:-1]),
            figure(self.rates, 0),
            f"{median(self.p99s):.1f}",
        ]


def start(name: str, model: str, store: Path, body: bytes) -> Server:
    """The server of a way; not running yet."""
    folder = Path(name)
    if name != "." and folder.is_dir():
        return Server(checkout(folder.resolve()), model, store, body, folder.resolve())
    settings = {} if name == "." else dict(pair.split("=", 1) for pair in name.split(","))
    return Server(ours(**settings), model, store, body)


def main(arguments: Sequence[str] | None = None) -> list[Way]:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ways", nargs="+", help="settings such as decoders=2, or a checkout")
    parser.add_argument("--model", choices=models.NAMES, default="null")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1, help="of load, each turn")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--name", help="of the result's file; not written if empty")
    chosen = parser.parse_args(arguments)
    body = bodies.jpeg("small")
    with (
        tempfile.TemporaryDirectory(prefix="gsop-bench-") as folder,
        contextlib.ExitStack() as all_,
    ):
        models.publish_models(Path(folder))
        ways = [
            Way(name, all_.enter_context(start(name, chosen.model, Path(folder), body)))
            for name in chosen.ways
        ]
        for number in range(chosen.rounds + 1):
            for way in ways:
                way.turn(body, chosen.connections, chosen.seconds)
                if not number:  # the first turn warms up
                    way.rates, way.p99s, way.roles = [], [], []
    header = ["way", "CPU µs/request", "front", "decoders", "engine", "requests/s", "p99 ms"]
    print(f"model {chosen.model}, {chosen.connections} connections, {chosen.rounds} rounds")
    print(markdown(header, [way.row() for way in ways]))
    if chosen.name:
        content = [{"way": w.name, "rates": w.rates, "p99_ms": w.p99s, "us": w.roles} for w in ways]
        print(f"saved {save(chosen.name, {'setting': vars(chosen), 'ways': content})}")
    return ways


if __name__ == "__main__":
    main()

"""What operators fear, done on purpose to a real server under load.

    python -m tests.chaos.failures                         # everything, some ten minutes
    python -m tests.chaos.failures kill-engine --seconds 20

Each scenario starts the service as a user would, breaks something, and checks what
docs/reliability.md promises. A line with its figures is printed for each; the exit status is 1 if a
promise broke or a figure missed its mark.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.chaos.deaths import kill_engine, kill_front, kill_supervisor
from tests.chaos.drain import drain, rolling_restart
from tests.chaos.overload import overload
from tests.chaos.report import Report
from tests.chaos.soak import soak
from tests.chaos.swaps import many_swaps, shares, swap_versions
from tests.stores import publish_tiny

SCENARIOS: dict[str, Callable[[Path, float], Report]] = {
    "kill-engine": kill_engine,
    "kill-front": kill_front,
    "kill-supervisor": kill_supervisor,
    "overload": overload,
    "drain": drain,
    "rolling-restart": rolling_restart,
    "swap-versions": swap_versions,
    "many-swaps": many_swaps,
    "shares": shares,
    "soak": soak,
}
"""Name → what does it, given a store with the model ``tiny`` and how long to go on."""


def main() -> int:
    """Run what is asked for; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--seconds", type=float, default=60, help="of each scenario")
    parser.add_argument("--requests", type=int, default=0, help="of the soak, instead of seconds")
    options = parser.parse_args()
    chosen = options.scenarios or list(SCENARIOS)
    if unknown := set(chosen) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    broken = False
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:  # its own: some publish what cannot serve
            publish_tiny(Path(folder))
            if name == "soak":
                report = soak(Path(folder), options.seconds, options.requests)
            else:
                report = SCENARIOS[name](Path(folder), options.seconds)
            broken |= bool(report.faults or report.missed)
            print(report.show(name), flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

"""Closed loop: a fixed number of connections, each sending anew as soon as it is answered. wrk."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SCRIPT = """
local file = assert(io.open(os.getenv("BENCH_BODY"), "rb"))
wrk.method, wrk.body = "POST", file:read("*a")
file:close()
for name, value in os.getenv("BENCH_HEADERS"):gmatch("([^\\n:]+):([^\\n]*)") do
  wrk.headers[name] = value
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\\nRESULT {"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p90_ms": %.3f, ' ..
    '"p99_ms": %.3f, "errors": %d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(90) / 1e3, latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True)
class Closed:
    """What wrk saw. ``requests`` counts all answers, ``errors`` those that were no success."""

    requests: int
    seconds: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    errors: int

    @property
    def rate(self) -> float:
        """Successful answers a second."""
        return max(0, self.requests - self.errors) / self.seconds


def parse(output: str) -> Closed:
    """Read what the script has printed.

    Raises:
        ValueError: if wrk printed no result.
    """
    for line in output.splitlines():
        if line.startswith("RESULT "):
            return Closed(**json.loads(line.removeprefix("RESULT ")))
    raise ValueError(f"wrk printed no result:\n{output}")


def run(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    connections: int,
    seconds: float,
    threads: int = 1,
) -> Closed:
    """Load ``url`` with wrk, by default with one thread of it.

    Raises:
        SystemExit: if wrk is not installed.
    """
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        script, file = Path(folder, "post.lua"), Path(folder, "body")
        script.write_text(SCRIPT)
        file.write_bytes(body)
        lines = "\n".join(f"{name}:{value}" for name, value in headers.items())
        done = subprocess.run(
            [
                *("wrk", f"-t{threads}", f"-c{connections}", f"-d{max(1, round(seconds))}s"),
                *("--timeout", "30s", "-s", str(script), url),
            ],
            env={**os.environ, "BENCH_BODY": str(file), "BENCH_HEADERS": lines},
            capture_output=True,
            text=True,
            check=False,
        )
    return parse(done.stdout + done.stderr)

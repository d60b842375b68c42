"""What tests of running services share: images, and the real server as a process."""

import asyncio
import io
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import numpy as np
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from gsop.model.config import GSoPResNetConfig

T = TypeVar("T")

ROOT = Path(__file__).parent.parent
START_SECONDS = 600.0
"""How long a server may take to become ready on a machine where importing torch takes minutes."""

UNHIDDEN = {} if os.getuid() == 0 else {"cage": "off"}
"""Tests count the open files of processes, which only root may do of those that hide."""

RUN = f"TESTS_RUN={os.getpid()}"
"""What the environment of every process has that this run of the tests begins."""

TINY = GSoPResNetConfig(depth=18, stem="cifar", base_width=8, reduced_dim=8, num_classes=10)


def png(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """The image as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def random_pngs(count: int, size: int = 32) -> list[bytes]:
    """Different small images."""
    generator = np.random.default_rng(count)
    return [png(generator.integers(0, 256, (size, size, 3), dtype=np.uint8)) for _ in range(count)]


def eventually(look: Callable[[], T | None], seconds: float = 180.0) -> T:
    """What ``look`` returns once it is true; an assertion error if it never is.

    The time is for the slowest of machines: it costs nothing where things go well.
    """
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
    return seen


class Server:
    """``python -m gsop serve`` on a free port of the loopback interface, stopped at the end."""

    def __init__(self, store: Path, *arguments: str, **settings: object) -> None:
        self.command = [
            *(sys.executable, "-m", "gsop", "serve", "--port", "0"),
            *("--model-store", str(store)),
            *arguments,
        ]
        # On the CPU; but on a GPU where the caller's environment says so, as for `tests.chaos`.
        device = os.environ.get("GSOP_DEVICE", "cpu")
        quiet = {"device": device, "torch_threads": 1, "fronts": 1} | UNHIDDEN | settings
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("GSOP_")},
            # Where processes of the service find the tests' own backends.
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            **{f"GSOP_{name.upper()}": str(value) for name, value in quiet.items()},
        }
        self.folder = ROOT
        self.log: list[str] = []
        self.verify: ssl.SSLContext | bool = True

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self.command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read_log)
        self._reader.start()
        try:
            self.url = eventually(self._find_url, START_SECONDS)
        except BaseException:
            self._end()
            raise
        self.http = httpx.Client(base_url=self.url, timeout=START_SECONDS, verify=self.verify)
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self._end()

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()  # its children see the end of their lifelines
            self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def run_to_end(self) -> tuple[int, list[str]]:
        """Run a server that is expected to refuse to start; its exit status and its log."""
        done = subprocess.run(
            self.command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        return done.returncode, done.stderr.splitlines()

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        self.log.extend(self.process.stderr)

    def _find_url(self) -> str | None:
        assert self.process.poll() is None, "".join(self.log)
        found = re.search(r"listening on (https?://\S+)", "".join(self.log))
        return found[1] if found else None

    def wait_ready(self) -> Self:
        """Until ``/readyz`` says yes."""
        eventually(lambda: self.http.get("/readyz").status_code == 200, START_SECONDS)
        return self

    def terminate(self, seconds: float = 60.0) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def predict(self, image: bytes, **query: object) -> dict[str, Any]:
        """The answer to a raw image."""
        answer = self.http.post(
            "/predict", params=_params(query), content=image, headers={"Content-Type": "image/png"}
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        text = self.http.get("/metrics").text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def descendants(self) -> dict[int, str]:
        """Pid and name of every process below the server's."""
        return descendants(self.process.pid)

    def child(self, name: str) -> int:
        """Pid of the one process of that name."""
        (pid,) = [pid for pid, its_name in self.descendants().items() if its_name == name]
        return pid

    def engine(self, number: int = 0) -> int:
        """Pid of an engine."""
        return self.child(f"gsop-engine-{number}")


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def state_of(pid: int) -> str | None:
    """The letter that proc(5) has for a process's state; ``None`` if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def descendants(root: int) -> dict[int, str]:
    """Pid and name of every process below ``root``."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid = int(entry.name)
        parents[pid] = int(stat.rpartition(")")[2].split()[1])
        names[pid] = stat.partition("(")[2].rpartition(")")[0]
    below = {root}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    return {pid: names[pid] for pid in below - {root}}


def orphans() -> dict[int, str]:
    """Pid and command of what this run of the tests began and nobody looks after any more."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            ours = RUN.encode() in (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if parent == "1" and ours:
            found[int(entry.name)] = command.replace("\0", " ")
    return found


async def send_all(
    url: str,
    images: Sequence[bytes],
    *,
    clients: int,
    requests: int,
    query: dict[str, str] | None = None,
) -> list[tuple[int, httpx.Response]]:
    """Send ``requests`` from ``clients`` at once; which image it was, and its answer."""
    answers: list[tuple[int, httpx.Response]] = []
    remaining = iter(range(requests))
    limits = httpx.Limits(max_connections=clients)

    async def send(client: httpx.AsyncClient) -> None:
        for number in remaining:
            which = number % len(images)
            answer = await client.post(
                "/predict",
                params=query,
                content=images[which],
                headers={"Content-Type": "image/png"},
            )
            answers.append((which, answer))

    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=START_SECONDS) as client:
        await asyncio.gather(*(send(client) for _ in range(clients)))
    return answers


def in_background(coroutine: Coroutine[Any, Any, T]) -> Callable[[], T]:
    """Run it in a thread's own event loop; call what is returned for the result."""
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(asyncio.run(coroutine)))
    thread.start()

    def join() -> T:
        thread.join()
        return results[0]

    return join


def _params(query: dict[str, object]) -> dict[str, str]:
    return {name: str(value).lower() for name, value in query.items()}

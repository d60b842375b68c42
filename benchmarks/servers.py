"""The servers under test: how each is started, asked and ended."""

import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from benchmarks import models
from benchmarks.processes import MARK, CpuMeter, members, pss_bytes

ROOT = Path(__file__).parent.parent
PEERS = Path(__file__).parent / ".peers"
ROLES = ("front", "decoder", "engine", "others")
"""The processes of this service; the others are the supervisor and its nurseries."""

OLD_ROLES = {"app.api.front": "front", "app.decoder": "decoder", "app.engine": "engine"}
"""The same by their command lines, in releases before 0.2, whose package was called app."""

START_SECONDS = 120.0
PROBE_SECONDS = 2.0
"""A server that is not ready yet may take a request in and never answer it."""


@dataclass(frozen=True)
class Kind:
    """A server and one way to set it up.

    Attributes:
        name: in the tables; ``peer-setting``.
        command: given model, store and port.
        path: that is posted to; ``{model}`` is replaced.
        headers: of a request, besides its length.
        environment: variables that set it up.
        null_environment: more of them, for the model ``null``.
    """

    name: str
    command: Callable[[str, Path, int], list[str]]
    path: str = "/predict"
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "image/jpeg"})
    environment: Mapping[str, str] = field(default_factory=dict)
    null_environment: Mapping[str, str] = field(default_factory=dict)


def _ours(model: str, store: Path, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "gsop", "serve", "--port", str(port)),
        *("--model-store", str(store)),
    ]


def _before_0_2(model: str, store: Path, port: int) -> list[str]:
    return [part if part != "gsop" else "app" for part in _ours(model, store, port)]


def checkout(folder: Path) -> Kind:
    """This service as another checkout has it."""
    environment = {"GSOP_DEVICE": "cpu"}
    if (folder / "app" / "gsop").is_dir():
        return Kind(folder.name, _ours, environment=environment)
    old_null = {"GSOP_BACKEND": "benchmarks.null:NullPredictor"}
    return Kind(folder.name, _before_0_2, environment=environment, null_environment=old_null)


def ours(name: str = "gsop", **settings: str) -> Kind:
    """This service; ``settings`` without the ``GSOP_``."""
    chosen = {f"GSOP_{key.upper()}": value for key, value in settings.items()}
    return Kind(name, _ours, environment={"GSOP_DEVICE": "cpu"} | chosen)


def peer(name: str, **setting: str) -> Kind:
    """A peer in its own environment; ``setting`` goes to its script."""

    def command(model: str, store: Path, port: int) -> list[str]:
        python = sys.executable if name == "fastapi" else str(PEERS / name / "bin" / "python")
        return [
            *(python, "-m", f"benchmarks.peers.{name}_server"),
            *("--model", model, "--store", str(store), "--port", str(port)),
            *(f"--{key.replace('_', '-')}={value}" for key, value in setting.items()),
        ]

    label = "-".join([name, *(f"{key[0]}{value}" for key, value in setting.items())])
    if name == "pytriton":
        # Triton's "raw binary request": the whole body is the one element of the one input.
        headers = {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": "0",
        }
        return Kind(label, command, path="/v2/models/{model}/infer", headers=headers)
    return Kind(label, command, path="/inference" if name == "mosec" else "/predict")


class Server:
    """A running server. A context manager: none of its processes is left at the end.

    Args:
        kind: what runs.
        model: that it serves.
        store: where the model is.
        body: of its requests.
        root: the checkout of this project that it runs from.
    """

    def __init__(self, kind: Kind, model: str, store: Path, body: bytes, root: Path = ROOT) -> None:
        self.kind, self._body, self._root = kind, body, root
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        path = kind.path.format(model=model)
        self.url = f"http://127.0.0.1:{self._port}{path}"
        self.mark = secrets.token_hex(8)
        self._command = kind.command(model, store, self._port)
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("GSOP_")},
            "GSOP_MODELS": model,
            "GSOP_BACKEND": models.backend_of(model),
            "PYTHONPATH": os.pathsep.join([str(root / "app"), str(root)]),
            MARK: self.mark,
            **kind.environment,
            **(kind.null_environment if model == "null" else {}),
        }
        self.ready_seconds = 0.0

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile("w+")
        began = time.monotonic()
        self._process = subprocess.Popen(
            self._command,
            cwd=self._root,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self._wait_for_an_answer(began + START_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        self.ready_seconds = time.monotonic() - began
        return self

    def __exit__(self, *_: object) -> None:
        for number, patience in ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0)):
            left = members(self._process.pid, self.mark)
            if not left and self._process.poll() is not None:
                break
            # The started process ends its children in its own order; at last all are killed.
            targets = [self._process.pid] if number == signal.SIGTERM else list(left)
            for pid in targets:
                if pid in left:
                    os.kill(pid, number)
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline:
                self._process.poll()
                if not members(self._process.pid, self.mark):
                    break
                time.sleep(0.05)
        self._process.wait()
        self._log.close()

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self._process.pid

    def log(self) -> str:
        """What it has written so far; the last lines."""
        self._log.seek(0)
        return self._log.read()[-3000:]

    def ask(
        self, timeout: float = 30, over: http.client.HTTPConnection | None = None
    ) -> tuple[int, bytes]:
        """Send the body once, over a connection of its own if none is given; status and answer."""
        connection = over or self.connect(timeout)
        try:
            connection.request("POST", urlsplit(self.url).path, self._body, dict(self.kind.headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            if over is None:
                connection.close()

    def connect(self, timeout: float = 30) -> http.client.HTTPConnection:
        """A connection for :meth:`ask`, to be closed by the caller."""
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout)

    def text(self, path: str) -> str:
        """The answer to a GET."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def cpu(self) -> CpuMeter:
        """A meter of all its processes that begins now."""
        return CpuMeter(self._process.pid, self.mark)

    def seconds_by_role(self) -> dict[str, float]:
        """CPU seconds of this service's processes so far, by :data:`ROLES`."""
        found = dict.fromkeys(ROLES, 0.0)
        for pid, stat in members(self.pid, self.mark).items():
            found[role_of(pid)] += stat.seconds
        return found

    def memory_bytes(self) -> int:
        """PSS of all its processes."""
        return sum(pss_bytes(pid) for pid in members(self._process.pid, self.mark))

    def _wait_for_an_answer(self, deadline: float) -> None:
        answer: object = None
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.kind.name} ended by itself:\n{self.log()}")
            try:
                status, answer = self.ask(PROBE_SECONDS)
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
                continue
            if status == 200:
                return
            time.sleep(0.02)
        raise RuntimeError(f"{self.kind.name} does not answer: {answer!r}\n{self.log()}")


def role_of(pid: int) -> str:
    """Which of :data:`ROLES` a process of this service is."""
    name = Path(f"/proc/{pid}/comm").read_text().strip().removeprefix("gsop-").partition("-")[0]
    if name in ROLES:
        return name
    command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return next((role for mark, role in OLD_ROLES.items() if mark in command), ROLES[-1])

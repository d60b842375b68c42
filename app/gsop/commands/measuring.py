"""What a request costs on this machine: its batches in this process, the rest in a service.

The service has a backend that answers at once, so what its processes use is what a request takes
outside of the device.
"""

import http.client
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import numpy as np
import orjson

from gsop.backends.base import Backend, buckets, warm_up_in_memory
from gsop.commands.local import open_backend
from gsop.commands.sizing import Figures
from gsop.cpus import cpu_count
from gsop.errors import ConfigError, SetupError
from gsop.settings import Settings
from gsop.store.catalog import resolve
from gsop.store.manifest import Manifest

LEAST_BATCHES = 3
MOST_BATCHES = 200
BATCH_SECONDS = 1.0
"""Of each size; so many at least and at most."""

CONNECTIONS = 8
WARM_UP_SECONDS = 1.0
LOAD_SECONDS = 8.0
START_SECONDS = 120.0


def measure(settings: Settings, reference: str, image: Path) -> Figures:
    """Measure; takes some 20 seconds, and wants a machine that has little else to do.

    Args:
        settings: which store, device, precision and backend; on processors, how many threads a
            forward has, one if that is 0.
        reference: ``name`` or ``name/version``.
        image: a file as clients send them.

    Raises:
        ConfigError: if the image cannot be read, or this system has no proc(5).
        SetupError: if the model or the device is not to be had, or the service refuses the image.
    """
    try:
        body = image.read_bytes()
    except OSError as error:
        raise ConfigError(f"{image} cannot be read: {error.strerror}") from error
    if not Path("/proc/self/stat").exists():
        raise ConfigError("--measure reads what processes use from /proc: run it on Linux")
    manifest = resolve(settings.model_store, reference)
    threads = settings.torch_threads or 1
    backend = open_backend(settings.model_copy(update={"torch_threads": threads}), manifest)
    batches = _batches(backend, threads)
    return Figures(
        model=f"{manifest.name}/{manifest.version}",
        device=f"{backend.hardware or backend.device}, {backend.precision}",
        computes_on_cores=backend.computes_here,
        machine=f"{_processor()}, {cpu_count()} cores",
        engine_cores=threads if backend.computes_here else 1,
        image_bytes=len(body),
        image_seconds=_image_seconds(settings, manifest, body),
        batches=batches,
    )


# ── batches ──────────────────────────────────────────────────────────────────────────────────────


def _batches(backend: Backend[Any], threads: int) -> dict[int, tuple[float, ...]]:
    """Seconds of batches, by their size.

    Of a forward on one processor it is the time of that processor, which is what it takes where no
    other work is beside it.
    """
    warm_up_in_memory(backend)
    is_alone = backend.computes_here and threads == 1
    clock = time.process_time if is_alone else time.perf_counter
    found = {size: tuple(_timed(backend, size, clock)) for size in buckets(backend.max_batch)}
    backend.close()
    return found


def _timed(backend: Backend[Any], size: int, clock: Callable[[], float]) -> Iterator[float]:
    spec = backend.manifest.input
    shape = (size, spec.height, spec.width, 3)
    images = list(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    began = clock()
    for number in range(MOST_BATCHES):
        start = clock()
        backend.result(backend.submit(images))
        end = clock()
        yield end - start
        if number + 1 >= LEAST_BATCHES and end - began > BATCH_SECONDS:
            return


# ── everything else ──────────────────────────────────────────────────────────────────────────────


def _image_seconds(settings: Settings, manifest: Manifest, body: bytes) -> float:
    """Processor time of a request, of all processes of a service whose device computes nothing."""
    with _service(settings, manifest) as (pid, url):
        with _Load(url, body) as load:
            time.sleep(WARM_UP_SECONDS)
            count, used = load.answered, _used_below(pid)
            time.sleep(LOAD_SECONDS)
            count, used = load.answered - count, _used_below(pid) - used
        load.check()
    if not count:
        raise SetupError(f"no request was answered within {LOAD_SECONDS:g} s: try a smaller image")
    return used / count


@contextmanager
def _service(settings: Settings, manifest: Manifest) -> Iterator[tuple[int, str]]:
    """A service on this machine that computes nothing: its pid and its address."""
    given = {
        "HOST": "127.0.0.1",
        "PORT": "0",
        "BACKEND": "null",
        "DEVICE": "cpu",
        "MODELS": f"{manifest.name}/{manifest.version}",
        "MODEL_STORE": str(settings.model_store.absolute()),
        "MAX_BODY_BYTES": str(settings.max_body_bytes),
        "MAX_IMAGE_PIXELS": str(settings.max_image_pixels),
        "LOG_FORMAT": "text",
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GSOP_")}
    environment |= {f"GSOP_{name}": value for name, value in given.items()}
    command = [sys.executable, "-m", "gsop", "serve"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603  # this very program
        assert process.stderr is not None  # noqa: S101  # as it is piped
        lines: list[str] = []
        reader = threading.Thread(target=_read, args=(process.stderr, lines), daemon=True)
        reader.start()
        try:
            url = _until(lambda: _address(process, lines))
            _until(lambda: _is_ready(url))
            yield process.pid, url
        finally:
            process.terminate()
            process.wait()
            reader.join()


def _read(stream: IO[str], lines: list[str]) -> None:
    lines.extend(stream)


def _address(process: "subprocess.Popen[str]", lines: list[str]) -> str | None:
    if process.poll() is not None:
        raise SetupError(f"the service did not start: {''.join(lines).strip()}")
    found = re.search(r"listening on (http://\S+)", "".join(lines))
    return found[1] if found else None


def _is_ready(url: str) -> bool:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    return False


def _until(look: Callable[[], str | bool | None]) -> str:
    deadline = time.monotonic() + START_SECONDS
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise SetupError(f"the service was not ready within {START_SECONDS:g} s")
        time.sleep(0.05)
    return str(seen)


class _Load:
    """Connections that send an image, and anew as soon as they are answered."""

    def __init__(self, url: str, body: bytes) -> None:
        self._host, self._body = urlsplit(url).netloc, body
        self._counts = [0] * CONNECTIONS
        self._refusal = ""
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(number,)) for number in range(CONNECTIONS)
        ]

    def __enter__(self) -> "_Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def answered(self) -> int:
        """Requests that were answered."""
        return sum(self._counts)

    def check(self) -> None:
        """Raise SetupError if one was refused."""
        if self._refusal:
            raise SetupError(f"the service refused the image: {self._refusal}")

    def _send(self, number: int) -> None:
        connection = http.client.HTTPConnection(self._host, timeout=60)
        headers = {"Content-Type": "application/octet-stream"}
        while not (self._ended.is_set() or self._refusal):
            try:
                connection.request("POST", "/predict", self._body, headers)
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self._refusal = str(error) or type(error).__name__
                break
            if answer.status != 200:
                self._refusal = str(orjson.loads(text)["detail"])
            self._counts[number] += 1
        connection.close()


def _used_below(root: int) -> float:
    """Processor seconds of a process and all below it, those that ended included (proc(5))."""
    found: dict[int, tuple[int, int]] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit():
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                found[int(entry.name)] = int(fields[1]), sum(map(int, fields[11:15]))
    below = {root}
    while more := {pid for pid, (parent, _) in found.items() if parent in below} - below:
        below |= more
    return sum(found[pid][1] for pid in below if pid in found) / os.sysconf("SC_CLK_TCK")


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return os.uname().machine

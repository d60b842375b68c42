"""It starts wherever it is started: beside strangers' files, without streams, as process 1."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support import (
    ROOT,
    START_SECONDS,
    Server,
    descendants,
    eventually,
    free_port,
    random_pngs,
    state_of,
)

pytestmark = pytest.mark.slow

IMAGE = random_pngs(1)[0]
PNG = {"Content-Type": "image/png"}

# ── in a folder that holds other people's files ──────────────────────────────────────────────────

STRANGERS = (
    *("app.py", "app/__init__.py", "torch.py", "fastapi.py", "pydantic.py", "numpy.py"),
    *("uvicorn.py", "PIL.py", "gsop.py"),
)
GSOP = str(Path(sys.executable).with_name("gsop"))
WAYS = {
    "gsop": ([GSOP], STRANGERS),
    "python -m gsop": ([sys.executable, "-m", "gsop"], STRANGERS[:-1]),
    # A gsop.py in the working folder is what `python -m gsop` means, says Python; -P says no.
    "python -P -m gsop": ([sys.executable, "-P", "-m", "gsop"], STRANGERS),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_strangers_file_is_run(tiny_store: Path, tmp_path: Path, way: str) -> None:
    command, strangers = WAYS[way]
    for name in strangers:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"open('ran', 'a').write({name!r})\nraise SystemExit('a stranger')\n")
    server = Server(tiny_store, models="tiny")
    server.command[:3] = command
    server.folder = tmp_path
    server.environment["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
    with server:
        assert server.wait_ready().predict(IMAGE)["predictions"]
        os.kill(server.engine(), signal.SIGKILL)
        eventually(lambda: server.metric("gsop_engine_epoch") == 2)
        assert server.predict(IMAGE)["predictions"]
        assert server.terminate() == 0
    assert not (tmp_path / "ran").exists()


# ── without standard streams ─────────────────────────────────────────────────────────────────────

STREAMS = {
    "no stdin": "<&-",
    "no stderr": "2>&-",
    "neither stdout nor stderr": ">&- 2>&-",
    "none": "<&- >&- 2>&-",
    "a log on a full disk": "2>/dev/full",
    "a log that nobody reads": "2> >(true)",
}


@contextmanager
def started(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("streams", STREAMS)
def test_it_serves_without_standard_streams(tiny_store: Path, streams: str) -> None:
    port = free_port()
    server = Server(tiny_store, "--port", str(port), models="tiny", log_requests=True)
    command = ["bash", "-c", f'exec "$@" {STREAMS[streams]}', "bash", *server.command]
    with started(command, server.environment) as process:
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: ready(url), START_SECONDS)
        answer = httpx.post(f"{url}/predict", content=IMAGE, headers=PNG, timeout=START_SECONDS)
        assert answer.status_code == 200
        for pid in (process.pid, *descendants(process.pid)):
            files = {entry.name: entry for entry in Path(f"/proc/{pid}/fd").iterdir()}
            assert {"0", "1", "2"} <= files.keys()
            open_ = [str(files[number].readlink()) for number in ("0", "1", "2")]
            assert not [name for name in open_ if "socket" in name or "memfd" in name]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


# ── as process 1 ─────────────────────────────────────────────────────────────────────────────────

UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


def may_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


@pytest.fixture
def first(tiny_store: Path) -> Iterator[Server]:
    """A server that is process 1 of a namespace."""
    server = Server(tiny_store, models="tiny", drain_delay_seconds=60)
    server.command = [*UNSHARE, *server.command]
    with server:
        yield server.wait_ready()


def first_process(server: Server) -> int:
    children = [
        pid
        for pid in server.descendants()
        if int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        == server.process.pid
    ]
    (pid,) = children
    return pid


needs_namespaces = pytest.mark.skipif(not may_unshare(), reason="may not make a PID namespace")


@needs_namespaces
def test_as_process_1_a_second_signal_ends_it_at_once(first: Server) -> None:
    pid, below = first_process(first), first.descendants()
    os.kill(pid, signal.SIGINT)
    eventually(lambda: first.http.get("/readyz").status_code == 503)
    assert first.process.poll() is None, "it drains, for a minute"
    os.kill(pid, signal.SIGINT)
    assert first.process.wait(10) == 128 + signal.SIGINT
    eventually(lambda: not any(map(state_of, below)))


@needs_namespaces
def test_as_process_1_it_leaves_no_zombies(first: Server) -> None:
    first.predict(IMAGE)
    old = first.descendants()
    pid = first_process(first)
    for victim, name in old.items():
        if name.startswith("gsop-") and victim != pid:
            os.kill(victim, signal.SIGKILL)

    def recovered() -> bool:
        url = str(first.http.base_url)
        return ready(url) and not set(old) & set(first.descendants()) - {pid}

    eventually(recovered, START_SECONDS)
    assert first.predict(IMAGE)["predictions"]
    assert [name for one, name in first.descendants().items() if state_of(one) == "Z"] == []

"""The service as a container would run it: nobody's, without a home, on file systems of no writes.

Mount namespaces stand in for the container engine, so this needs root, as CI has.
"""

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT, Server

NOBODY = 65534

CONFINE = """
set -e
while read -r _ where type _; do
    case $type in
        proc|sysfs|cgroup*|devpts|mqueue) ;;
        *) mount -o remount,bind,ro "$where" ;;
    esac
done < /proc/self/mounts
# The capability lets it read this checkout even in a private folder, and lets it write nothing.
exec setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs \\
    --bounding-set=-all,+dac_read_search --inh-caps=-all,+dac_read_search \\
    --ambient-caps=-all,+dac_read_search "$@"
"""
COMMAND = ["unshare", "--mount", "sh", "-c", CONFINE, "sh"]


def _possible() -> bool:
    if os.getuid() or not (shutil.which("unshare") and shutil.which("setpriv")):
        return False
    return subprocess.run([*COMMAND, "true"], capture_output=True, check=False).returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not _possible(), reason="needs root, and leave to make a mount namespace"),
]


class Confined(Server):
    """A server that owns nothing and can write nowhere."""

    def __init__(self, store: Path, **settings: object) -> None:
        super().__init__(store, **settings)
        self.command = [*COMMAND, *self.command]
        for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "USER", "LOGNAME"):
            self.environment.pop(name, None)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Confined(ROOT / "model_store", log_format="json", fronts=2, cage="required") as server:
        yield server.wait_ready()


@pytest.mark.parametrize("folder", [ROOT / "model_store" / "digits", Path(tempfile.gettempdir())])
def test_nothing_can_be_written(folder: Path) -> None:
    probe = folder / "probe"
    done = subprocess.run(
        [*COMMAND, "touch", str(probe)], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr
    assert not probe.exists()


def test_it_serves_everything(server: Server) -> None:
    image = (ROOT / "examples/digits/7.png").read_bytes()
    answer = server.predict(image, attention="true")
    assert answer["predictions"][0]["label"] == "7"
    for form in ("application/json", "image/png", "application/x-npz"):
        got = server.http.get(f"/attention/{answer['id']}", headers={"Accept": form})
        assert got.status_code == 200
    for path in ("/attention", "/models", "/models/digits", "/healthz", "/metrics", "/docs"):
        assert server.http.get(path).status_code == 200
    server.http.post("/predict", files={"image": b"x" * 5_000_000})  # too large for a pipe's buffer
    assert not [line for line in server.log if '"level": "error"' in line or "warning" in line]


def test_every_process_is_nobody_and_has_no_file_open_to_write(server: Server) -> None:
    processes = [server.process.pid, *server.descendants()]
    assert len(processes) >= 6  # supervisor, engine, fronts, and their decoders
    for pid in processes:
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(NOBODY)}
        assert status["NoNewPrivs"] == "1"
        for file in Path(f"/proc/{pid}/fd").iterdir():
            target = str(file.readlink())
            writable = file.lstat().st_mode & stat.S_IWUSR
            in_memory = target.startswith(("/memfd:", "pipe:", "socket:", "anon_inode:"))
            assert in_memory or target == "/dev/null" or not writable, target


def test_no_process_is_looked_into_by_another_of_its_user(server: Server) -> None:
    for pid in (server.process.pid, *server.descendants()):
        for what in ("environ", "maps"):
            path = f"/proc/{pid}/{what}"
            done = subprocess.run([*COMMAND, "cat", path], capture_output=True, check=False)
            assert done.returncode != 0, path
            assert not done.stdout


def test_it_drains_and_leaves() -> None:
    with Confined(ROOT / "model_store") as server:
        server.wait_ready()
        assert server.terminate() == 0

"""Machines, stores and settings that are not as they should be."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gsop.store.manifest import MANIFEST_FILE, WEIGHTS_FILE
from tests.stores import publish_tiny
from tests.support import Server, eventually, random_pngs

pytestmark = pytest.mark.slow

IMAGE = random_pngs(1)[0]


def check_refusal(server: Server, remedy: str) -> None:
    status, lines = server.run_to_end()
    assert status == 1
    errors = [line for line in lines if line.startswith("gsop: error:")]
    assert len(errors) == 1
    assert remedy in errors[0]
    assert "Traceback" not in "".join(lines)


def change_a_bit(version: Path) -> None:
    weights = version / WEIGHTS_FILE
    data = bytearray(weights.read_bytes())
    data[-100] ^= 1
    weights.write_bytes(data)


def write_nonsense(version: Path) -> None:
    (version / MANIFEST_FILE).write_text("{")


@pytest.mark.parametrize("damage", [change_a_bit, write_nonsense])
def test_a_bad_version_is_refused_at_start(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """For the engine to find, and for the supervisor; tests/store has all that may be wrong."""
    damage(publish_tiny(tmp_path))
    check_refusal(Server(tmp_path, models="tiny"), "publish the version again")


def test_a_port_that_is_taken_is_refused_at_start(tiny_store: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        check_refusal(Server(tiny_store, "--port", str(port), models="tiny"), "GSOP_PORT")


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"models": "tiny,tiny"}, "GSOP_MODELS"),
        ({"models": "tiny", "slots": 2, "fronts": 4}, "GSOP_SLOTS"),
        ({"models": "tiny", "tls_keyfile": "key.pem"}, "GSOP_TLS_CERTFILE"),
        ({"models": "tiny", "max_body_bytes": 2000, "body_memory_bytes": 1000}, "GSOP_BODY_MEMORY"),
        ({"models": "tiny", "backend": "tests.failing_backends:Nobody"}, "GSOP_BACKEND"),
        ({"models": "tiny", "api_keys_file": "/nowhere"}, "GSOP_API_KEYS_FILE"),
        ({"models": "tiny", "slots": 65536, "max_image_pixels": 0}, "GSOP_MAX_IMAGE_PIXELS"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_start(
    tiny_store: Path, settings: dict[str, object], remedy: str
) -> None:
    check_refusal(Server(tiny_store, **settings), remedy)


@pytest.mark.parametrize(("blocks", "remedy"), [(1024, "counters"), (8192, "GSOP_SLOTS")])
def test_a_machine_without_the_memory_says_so_at_start(
    tiny_store: Path, blocks: int, remedy: str
) -> None:
    server = Server(tiny_store, models="tiny", slots=65536)
    # A file, and so shared memory, may have so many half kilobytes: as where there is no more.
    limited = f'ulimit -f {blocks}; trap "" XFSZ; exec "$@"'
    server.command = ["sh", "-c", limited, "sh", *server.command]
    check_refusal(server, remedy)


def test_what_is_loaded_is_served_on_when_the_store_vanishes(tmp_path: Path) -> None:
    store, away = tmp_path / "store", tmp_path / "away"
    publish_tiny(store)
    with Server(store, models="tiny") as server:
        before = server.wait_ready().predict(IMAGE)["predictions"]
        store.rename(away)
        assert server.predict(IMAGE)["predictions"] == before
        listed = server.http.get("/models").json()["models"]
        assert [(m["name"], m["loaded"], m["error"]) for m in listed] == [("tiny", True, None)]
        assert server.http.get("/models/tiny").status_code == 200
        assert server.http.get("/readyz").status_code == 200
        # An engine that dies now finds no weights: that must be seen, and mend itself in the end.
        os.kill(server.engine(), signal.SIGKILL)
        eventually(lambda: server.http.get("/healthz").status_code == 503)
        assert "no folder" in "".join(server.log)
        away.rename(store)
        assert server.predict(IMAGE)["predictions"] == before


def test_a_store_that_is_emptied_is_listed_with_what_is_loaded(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    with Server(tmp_path, models="tiny") as server:
        server.wait_ready()
        shutil.rmtree(tmp_path / "tiny")
        listed = server.http.get("/models").json()["models"]
        assert [(m["name"], m["loaded"]) for m in listed] == [("tiny", True)]
        server.predict(IMAGE)


MOUNTS = 'mount -o remount,bind,ro / && mount -t tmpfs -o size=4k none /dev/shm && exec "$@"'
"""Nothing can be written but 4 kB in /dev/shm, which one write fills."""


def has_namespaces() -> bool:
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", MOUNTS, "sh", "true"], capture_output=True, check=False
    )
    return done.returncode == 0


@pytest.mark.skipif(not has_namespaces(), reason="may not make a mount namespace here")
def test_a_read_only_disk_and_a_full_dev_shm_do_not_matter(tiny_store: Path) -> None:
    server = Server(tiny_store, models="tiny")
    fill = "head -c 4096 /dev/zero > /dev/shm/full && ! touch /somewhere 2>/dev/null && "
    script = MOUNTS.replace("exec", fill + "exec")
    server.command = ["unshare", "-m", "sh", "-c", script, "sh", *server.command]
    with server:
        before = server.wait_ready().predict(IMAGE)["predictions"]
        os.kill(server.engine(), signal.SIGKILL)
        assert server.predict(IMAGE)["predictions"] == before
        assert server.terminate() == 0

"""The application for Ray Serve, on a real Ray, which is not among the packages of the tests.

    pip install 'ray[serve]'
    python -m tests.chaos.ray_serve

Two replicas under load: one is killed, then a new version is deployed. What callers saw is printed;
nothing of the service may be left at the end.
"""

import json
import os
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Self

import httpx
import ray  # type: ignore[import-not-found]  # not among the packages of the tests
from ray import serve

from deploy.ray.app import deployment
from tests.stores import publish_tiny
from tests.support import eventually, free_port, random_pngs

CLIENTS = 4
MARK = "GSOP_REPLICA"
"""A variable that only replicas have."""
APPLICATION = "gsop"
RAYS = (500, "Internal Server Error")
"""What Ray itself answers to requests that were with a replica that died."""


class Load:
    """Clients that send images all the time.

    Attributes:
        seen: status and, of answers, the version, or of others the beginning of the text.
    """

    def __init__(self, url: str, clients: int = CLIENTS) -> None:
        self.seen: Counter[tuple[int | str, str]] = Counter()
        self._url = url
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def tell(self, what: str) -> None:
        """Print what came so far."""
        print(what)
        for (status, text), count in sorted(self.seen.items(), key=str):
            print(f"  {count:6d} × {status} {text}")

    def _send(self) -> None:
        (image,) = random_pngs(1)
        with httpx.Client(timeout=60) as client:
            while not self._ended.is_set():
                try:
                    answer = client.post(
                        f"{self._url}/predict", content=image, headers={"Content-Type": "image/png"}
                    )
                except httpx.HTTPError as error:
                    self.seen[type(error).__name__, str(error)[:60]] += 1
                    continue
                text = answer.text[:80]
                if answer.status_code == 200:
                    text = json.loads(answer.text)["model"]["version"]
                self.seen[answer.status_code, text] += 1


def marked(mark: str) -> dict[int, str]:
    """Pid and command of each process with the variable."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"{MARK}={mark}".encode() in (
                entry / "environ"
            ).read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "comm").read_text().strip()
        except OSError:
            continue
    return found


def deploy(store: Path, mark: str, version: str) -> None:
    """Have two replicas serve a version; returns when they do."""
    variables = {
        "GSOP_MODEL_STORE": str(store),
        "GSOP_MODELS": f"tiny/{version}",
        "GSOP_DEVICE": "cpu",
        "GSOP_TORCH_THREADS": "1",
        MARK: mark,
    }
    two = deployment.options(
        num_replicas=2,
        autoscaling_config=None,
        ray_actor_options={"num_cpus": 1, "runtime_env": {"env_vars": variables}},
    )
    serve.run(two.bind(), name=APPLICATION, route_prefix="/")


def running() -> int:
    """Replicas that run."""
    states = serve.status().applications[APPLICATION].deployments["gsop"].replica_states
    return int(states.get("RUNNING", 0))


def main() -> int:
    """Try it; 0 if nobody saw an error that is not Ray's own, and nothing is left."""
    mark, port = secrets.token_hex(8), free_port()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        for number in (1, 2):
            publish_tiny(store, version=str(number), seed=number)
        ray.init(
            num_cpus=6,
            include_dashboard=False,
            object_store_memory=10**8,
            log_to_driver=False,
            _system_config={"memory_monitor_refresh_ms": 0},  # others may use the machine's memory
        )
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            began = time.monotonic()
            deploy(store, mark, "1")
            print(f"two replicas after {time.monotonic() - began:.0f} s")
            with Load(f"http://127.0.0.1:{port}") as load:
                _try(load, store, mark)
        finally:
            serve.shutdown()
            ray.shutdown()
    try:
        eventually(lambda: not marked(mark), 60)
    except AssertionError:
        print(f"left: {marked(mark)}")
        return 1
    print("nothing is left")
    return int(any(status != 200 and (status, text) != RAYS for status, text in load.seen))


def _try(load: Load, store: Path, mark: str) -> None:
    eventually(lambda: load.seen[200, "1"] > 200)
    load.tell("two replicas:")
    replica = next(pid for pid, name in marked(mark).items() if name.startswith("ray::"))
    os.kill(replica, signal.SIGKILL)
    eventually(lambda: running() < 2, 60)
    eventually(lambda: running() == 2)
    before = load.seen[200, "1"]
    eventually(lambda: load.seen[200, "1"] > before + 200)
    load.tell("a replica was killed, and another took its place:")
    deploy(store, mark, "2")
    before = load.seen[200, "2"]
    eventually(lambda: load.seen[200, "2"] > before + 200)
    load.tell("version 2 was deployed:")


if __name__ == "__main__":
    sys.exit(main())

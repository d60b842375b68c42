"""``deploy/ray/config.yaml`` as a cluster takes it, and replicas by load, on a real Ray.

    pip install 'ray[serve]'
    python -m tests.chaos.ray_config

A cluster of one node is started, and the file deployed to it by ``serve deploy``, with what this
machine has in place of GPUs and limits that a small load reaches. What callers saw is printed:
while replicas come, while the file is deployed again with another version, and how many are left
once nobody asks.
"""

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.chaos.ray_serve import MARK, Load, marked
from tests.stores import publish_tiny
from tests.support import ROOT, eventually, free_port

MANY = 12
"""Clients at once: three replicas' worth."""
SCALING = {
    "min_replicas": 1,
    "max_replicas": 3,
    "target_ongoing_requests": 4,
    "metrics_interval_s": 1,
    "look_back_period_s": 3,
    "upscale_delay_s": 3,
    "downscale_delay_s": 10,
}


def config(store: Path, mark: str, version: str, port: int) -> dict[str, Any]:
    """The file that ships, for this machine."""
    changed: dict[str, Any] = yaml.safe_load((ROOT / "deploy/ray/config.yaml").read_text())
    changed["http_options"]["port"] = port
    (application,) = changed["applications"]
    application["runtime_env"]["env_vars"] |= {
        "GSOP_DEVICE": "cpu",
        "GSOP_MODELS": f"tiny/{version}",
        "GSOP_MODEL_STORE": str(store),
        "GSOP_TORCH_THREADS": "1",
        MARK: mark,
    }
    (deployment,) = application["deployments"]
    deployment |= {"ray_actor_options": {"num_cpus": 1}, "autoscaling_config": SCALING}
    return changed


class Cluster:
    """A Ray of one node."""

    def __init__(self) -> None:
        self._dashboard = f"http://127.0.0.1:{free_port()}"

    def __enter__(self) -> "Cluster":
        port = self._dashboard.rpartition(":")[2]
        command = [
            *("ray", "start", "--head", "--block", "--disable-usage-stats", "--num-cpus=6"),
            *(
                "--node-ip-address=127.0.0.1",
                f"--port={free_port()}",
                "--object-store-memory=100000000",
            ),
            *("--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}"),
        ]
        # Memory of others' on this machine is no reason to end replicas.
        environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_memory_monitor_refresh_ms": "0"}
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
        )
        eventually(self._answers)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)

    def deploy(self, written: dict[str, Any]) -> None:
        """Have ``serve deploy`` take it."""
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(yaml.safe_dump(written))
            file.flush()
            command = ["serve", "deploy", file.name, "--address", self._dashboard]
            subprocess.run(command, cwd=ROOT, check=True, timeout=120)

    def application(self) -> dict[str, Any]:
        """What Ray says of it; nothing before it knows it."""
        told = httpx.get(f"{self._dashboard}/api/serve/applications/", timeout=30).json()
        found: dict[str, Any] = told["applications"].get("gsop", {})
        return found

    def is_running(self) -> bool:
        """Whether it is; raises if it never will be."""
        application = self.application()
        status = application.get("status")
        if status in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise RuntimeError(application["message"])
        return status == "RUNNING"

    def running(self) -> int:
        """Replicas that run."""
        replicas = self.application()["deployments"]["gsop"]["replicas"]
        return sum(replica["state"] == "RUNNING" for replica in replicas)

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError("the cluster did not start")
        with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
            self.application()
            return True
        return False


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long it took."""
    began = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - began:.0f} s")


def main() -> int:
    """Try it; 0 if nobody saw an error, replicas came and went, and nothing is left."""
    mark, port = secrets.token_hex(8), free_port()
    with tempfile.TemporaryDirectory() as folder, Cluster() as cluster:
        store = Path(folder)
        for number in (1, 2):
            publish_tiny(store, version=str(number), seed=number)
        with timed("deployed"):
            cluster.deploy(config(store, mark, "1", port))
            eventually(cluster.is_running)
        url = f"http://127.0.0.1:{port}"
        with Load(url, MANY) as load:
            with timed(f"three replicas for {MANY} clients"):
                eventually(lambda: cluster.running() == 3)
            load.tell("meanwhile:")
            with timed("deployed again, with version 2"):
                cluster.deploy(config(store, mark, "2", port))
                eventually(lambda: load.seen[200, "2"] > 200)
                eventually(cluster.is_running)
            before = load.seen[200, "1"]
            eventually(lambda: load.seen[200, "2"] > 600)
            load.tell("and in all:")
            late = load.seen[200, "1"] - before
            print(f"of version 1 after Ray said that all was deployed: {late}")
        with timed("one replica, nobody asking"):
            eventually(lambda: cluster.running() == 1)
    eventually(lambda: not marked(mark), 60)
    print("nothing is left")
    return int(late > 0 or any(status != 200 for status, _ in load.seen))


if __name__ == "__main__":
    sys.exit(main())

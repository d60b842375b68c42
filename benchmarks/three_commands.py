"""From photographs to answers: the three commands of this checkout and of another one, in turns.

    git archive 32ef83f | tar x -C /tmp/0.1.0
    python -m benchmarks.three_commands --other /tmp/0.1.0 --module app

Train (a few epochs of the recipe ``small`` on the drawn photographs), publish, and serve until
ready; then single requests. ``whole`` is what the path takes with the recipe's own 30 epochs, each
as long as those that were measured.
"""

import argparse
import json
import os
import runpy
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import describe

ROOT = Path(__file__).parent.parent
EPOCHS = 30
"""Of the recipe."""

READY_SECONDS = 60


def main() -> None:
    """Measure, print, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other", type=Path, required=True, help="the other checkout")
    parser.add_argument("--module", default="gsop", help="its package: app in 0.1.0")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4, help="2 or more")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    chosen = parser.parse_args()
    versions = {"other": (chosen.other, chosen.module), "this": (ROOT, "gsop")}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in versions}
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        runpy.run_path(str(ROOT / "examples" / "make_photos.py"))["make_photos"](photos)
        for number in range(chosen.rounds):
            for name in sorted(versions, reverse=number % 2 == 1):
                work = Path(folder) / f"{name}-{number}"
                work.mkdir()
                rows[name].append(path(*versions[name], photos, work, chosen.epochs))
    found = {
        name: {key: statistics.median(r[key] for r in some) for key in some[0]}
        for name, some in rows.items()
    }
    print(table(found))
    if chosen.output is not None:
        written = found | {"rounds": rows, "machine": describe()}
        chosen.output.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def path(root: Path, module: str, photos: Path, work: Path, epochs: int) -> dict[str, float]:
    """Seconds of each of the commands, and milliseconds of a request.

    Args:
        root: a checkout.
        module: its package.
        photos: to train on.
        work: a folder to work in.
        epochs: to train.
    """
    source = root if module == "app" else root / "app"
    environment = os.environ | {"PYTHONPATH": str(source)}
    command = [sys.executable, "-P", "-m", module]

    def call(*arguments: str) -> float:
        began = time.perf_counter()
        subprocess.run(
            [*command, *arguments],
            env=environment,
            cwd=work,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return time.perf_counter() - began

    images = ("--data", str(photos), "--epochs", str(epochs))
    train = call("train", *images, "--output", "run", "--quiet")
    result = json.loads((work / "run" / "result.json").read_text(encoding="utf-8"))
    epoch = result["seconds"] / epochs
    publish = call("publish", "run", "--name", "photos", "--model-store", "store")
    ready, request = serve([*command, "serve"], environment, work, photos)
    return {
        "epoch": epoch,
        "train": train,
        "publish": publish,
        "ready": ready,
        "whole": train + (EPOCHS - epochs) * epoch + publish + ready,
        "request, ms": 1e3 * request,
    }


def serve(
    command: Sequence[str], environment: dict[str, str], work: Path, photos: Path
) -> tuple[float, float]:
    """Seconds until the service is ready, and of a request (the median of a hundred)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {"GSOP_MODELS": "photos", "GSOP_MODEL_STORE": str(work / "store"), "GSOP_PORT": str(port)}
    began = time.perf_counter()
    service = subprocess.Popen(
        command,
        env=environment | own,
        cwd=work,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not answers(f"http://127.0.0.1:{port}/readyz"):
            assert service.poll() is None, "the service has ended"
            assert time.perf_counter() - began < READY_SECONDS, "the service is not ready"
            time.sleep(0.02)
        ready = time.perf_counter() - began
        body = next((photos / "val" / "temple").glob("*.jpg")).read_bytes()
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/predict", body, {"Content-Type": "image/jpeg"}
        )
        took = [once(asked) for _ in range(120)][20:]
    finally:
        service.terminate()
        service.wait(30)
    return ready, statistics.median(took)


def answers(url: str) -> bool:
    """Whether the address answers well."""
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - of this machine
            return True
    except (urllib.error.URLError, OSError):
        return False


def once(asked: urllib.request.Request) -> float:
    """Seconds of one request."""
    began = time.perf_counter()
    with urllib.request.urlopen(asked) as answer:  # noqa: S310 - of this machine
        answer.read()
    return time.perf_counter() - began


def table(found: dict[str, dict[str, float]]) -> str:
    """What was measured, to read: medians, and how they compare."""
    lines = ["| | the other | this | ratio |", "|---|---:|---:|---:|"]
    lines += [
        f"| {key} | {other:.2f} | {found['this'][key]:.2f} | {found['this'][key] / other:.2f} |"
        for key, other in found["other"].items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""Gates of many files: the rate beside the raw forward, the memory, and a kill in the middle.

    python -m benchmarks.bulk --images 100000
    python -m benchmarks.bulk --images 100000 --folder /tmp/bulk --seconds 400    # again and again

Digits are drawn anew from the scans, as PNG files. ``gsop predict --attention FOLDER`` answers them
in a process of its own, is killed once a part of them is there, and is called again. Rates are
images a CPU second: wall time says little on a machine where others work. With ``--folder`` each
call goes on where the one before has stopped: after ``--seconds``, by a kill of what still runs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset
import torch

from benchmarks.processes import parse_stat, rss_bytes
from benchmarks.serve import save
from gsop.commands.local import open_backend
from gsop.settings import Settings
from gsop.store.catalog import resolve
from gsop.train.data.digits import Digits
from gsop.train.data.drawing import DrawingSpec
from gsop.train.data.variants import encode_png

SAMPLE_SECONDS = 0.2
LOOKS = 20
"""Times that the memory is told of."""

PART = 2048
"""Images of a file of gates."""


def draw_digits(folder: Path, count: int, deadline: float) -> bool:
    """Write ``count`` different drawings of the scans, those that are missing; whether all are."""
    digits = Digits(size=32, how=DrawingSpec())
    there = sum(1 for _ in folder.glob("*/*.png"))
    for number in range(there, count):
        if time.monotonic() > deadline:
            return False
        pixels, label = digits.training_image(number % len(digits), seed=number)
        place = folder / str(label)
        place.mkdir(exist_ok=True)
        (place / f"{number:06}.png").write_bytes(encode_png(pixels))
    return True


def raw_rate(store: Path, model: str, batches: int) -> float:
    """Images a CPU second of the forward alone, of full batches."""
    settings = Settings.model_validate({"model_store": store, "device": "cpu", "torch_threads": 1})
    backend = open_backend(settings, resolve(store, model))
    backend.warm_up()
    spec = backend.manifest.input
    images = list(
        np.random.default_rng(0).integers(
            0, 256, (backend.max_batch, spec.height, spec.width, 3), dtype=np.uint8
        )
    )
    began = time.process_time()
    for _ in range(batches):
        backend.result(backend.submit(images))
    return batches * len(images) / (time.process_time() - began)


def watch(
    process: subprocess.Popen[bytes], folder: Path, until: int, deadline: float
) -> dict[str, Any]:
    """What a run used, until it ends, or is killed: by ``deadline``, or with ``until`` parts."""
    memory: list[tuple[int, float]] = []
    seconds, began = 0.0, time.monotonic()
    while process.poll() is None:
        try:
            seconds = parse_stat(Path(f"/proc/{process.pid}/stat").read_text()).seconds
        except OSError:
            break
        parts = len(list(folder.glob("part-*.parquet")))
        memory.append((parts, rss_bytes(process.pid) / 2**20))
        if parts >= until or time.monotonic() > deadline:
            process.kill()
        time.sleep(SAMPLE_SECONDS)
    process.wait()
    by_parts = dict(memory)  # the last look at each
    chosen = sorted(by_parts)[:: max(1, len(by_parts) // LOOKS)]
    return {
        "status": process.returncode,
        "cpu_seconds": round(seconds, 2),
        "wall_seconds": round(time.monotonic() - began, 1),
        "mib_most": round(max(mib for _, mib in memory)),
        "mib_by_parts": {parts: round(by_parts[parts]) for parts in chosen},
    }


def main() -> int:
    """Measure, print, save; the exit status: 1 if there is more to do."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    parser.add_argument("--model", default="digits/1")
    parser.add_argument("--folder", type=Path, help="kept, to go on from; a temporary one if empty")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of this call")
    parser.add_argument("--name", help="of the result's file; not written if empty")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    deadline = time.monotonic() + chosen.seconds
    if chosen.folder is not None:
        return measure(chosen, chosen.folder, deadline)
    with tempfile.TemporaryDirectory(prefix="gsop-bulk-") as name:
        return measure(chosen, Path(name), deadline)


def measure(chosen: argparse.Namespace, folder: Path, deadline: float) -> int:
    """Go on with what is in ``folder``."""
    images, out, notes = folder / "images", folder / "gates", folder / "notes.json"
    images.mkdir(parents=True, exist_ok=True)
    noted: dict[str, Any] = json.loads(notes.read_text()) if notes.exists() else {"runs": []}
    if not draw_digits(images, chosen.images, deadline):
        return _more("not all images are drawn")
    command = [
        *(sys.executable, "-m", "gsop", "predict", "--quiet", "--device", "cpu"),
        *("--model-store", str(chosen.store), "--model", chosen.model),
        *("--attention", str(out), str(images)),
    ]
    environment = os.environ | {"GSOP_TORCH_THREADS": "1", "OMP_NUM_THREADS": "1"}
    while not noted["runs"] or noted["runs"][-1]["status"] != 0:
        parts = len(list(out.glob("part-*.parquet")))
        # The first run is killed in any case.
        until = sys.maxsize if noted["runs"] else max(1, chosen.images // PART // 3)
        before = raw_rate(chosen.store, chosen.model, 100)
        found = watch(subprocess.Popen(command, env=environment), out, until, deadline)
        if found["status"] > 0:
            return _more(f"gsop predict failed with status {found['status']}")
        found["images"] = pyarrow.dataset.dataset(out).count_rows() - PART * parts
        found["images_a_cpu_second"] = round(found["images"] / found["cpu_seconds"], 1)
        found["raw_images_a_cpu_second"] = round(before, 1)
        noted["runs"].append(found)
        notes.write_text(json.dumps(noted))
        if time.monotonic() > deadline and found["status"] != 0:
            return _more(f"{parts} parts of {chosen.images // PART + 1} were there before")
    result = told(out) | noted
    print(json.dumps(result, indent=2))
    if chosen.name:
        setting = {"images": chosen.images, "model": chosen.model}
        print(f"saved {save(chosen.name, {'setting': setting, **result})}")
    return 0


def told(out: Path) -> dict[str, Any]:
    """What is in the files of gates."""
    table = pyarrow.dataset.dataset(out).to_table(columns=["file", "label"])
    names = table["file"].to_pylist()
    right = sum(
        Path(file).parent.name == label
        for file, label in zip(names, table["label"].to_pylist(), strict=True)
    )
    return {
        "rows": len(names),
        "different": len(set(names)),
        "top1": round(right / len(names), 4),
        "mb": round(sum(path.stat().st_size for path in out.iterdir()) / 1e6, 1),
    }


def _more(why: str) -> int:
    print(f"{why}: call it again", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

"""Gates of many files: the rate beside the raw forward, the memory, and a kill in the middle.

    python -m benchmarks.bulk --images 100000

Digits are drawn anew from the scans, as PNG files. ``gsop predict --attention FOLDER`` answers them
in a process of its own, is killed once a part of them is there, and is called again. Rates are
images a CPU second: wall time says little on a machine where others work.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def draw_digits(folder: Path, count: int) -> None:
    """Write ``count`` different drawings of the scans."""
    digits = Digits(size=32, how=DrawingSpec())
    for number in range(count):
        pixels, label = digits.training_image(number % len(digits), seed=number)
        place = folder / str(label)
        place.mkdir(exist_ok=True)
        (place / f"{number:06}.png").write_bytes(encode_png(pixels))


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


def watch(process: subprocess.Popen[bytes], folder: Path, until: int) -> dict[str, object]:
    """What a run used, until it ends, or is killed once ``until`` parts are there."""
    memory: list[tuple[int, float]] = []
    seconds, began = 0.0, time.monotonic()
    while process.poll() is None:
        try:
            seconds = parse_stat(Path(f"/proc/{process.pid}/stat").read_text()).seconds
        except OSError:
            break
        parts = len(list(folder.glob("part-*.parquet")))
        memory.append((parts, rss_bytes(process.pid) / 2**20))
        if parts >= until:
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


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    parser.add_argument("--model", default="digits/1")
    parser.add_argument("--name", help="of the result's file; not written if empty")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="gsop-bulk-") as name:
        images, out = Path(name) / "images", Path(name) / "gates"
        images.mkdir()
        draw_digits(images, chosen.images)
        command = [
            *(sys.executable, "-m", "gsop", "predict", "--quiet", "--device", "cpu"),
            *("--model-store", str(chosen.store), "--model", chosen.model),
            *("--attention", str(out), str(images)),
        ]
        environment = os.environ | {"GSOP_TORCH_THREADS": "1", "OMP_NUM_THREADS": "1"}
        rates = [raw_rate(chosen.store, chosen.model, 100)]
        runs = []
        for until in (max(1, chosen.images // 2048 // 3), sys.maxsize):
            parts = len(list(out.glob("part-*.parquet")))
            process = subprocess.Popen(command, env=environment)
            found = watch(process, out, until)
            gained = pyarrow.dataset.dataset(out).count_rows() - 2048 * parts
            found["images"] = gained
            found["images_a_cpu_second"] = round(gained / float(str(found["cpu_seconds"])), 1)
            runs.append(found)
            rates.append(raw_rate(chosen.store, chosen.model, 100))
        table = pyarrow.dataset.dataset(out).to_table(columns=["file", "label"])
        names = table["file"].to_pylist()
        right = sum(
            Path(file).parent.name == label
            for file, label in zip(names, table["label"].to_pylist(), strict=True)
        )
        result = {
            "rows": len(names),
            "different": len(set(names)),
            "top1": round(right / len(names), 4),
            "mb": round(sum(path.stat().st_size for path in out.iterdir()) / 1e6, 1),
            "raw_images_a_cpu_second": [round(rate, 1) for rate in rates],
            "runs": runs,
        }
        shutil.rmtree(out)
    print(result)
    if chosen.name:
        setting = {key: str(value) for key, value in vars(chosen).items()}
        print(f"saved {save(chosen.name, {'setting': setting, **result})}")


if __name__ == "__main__":
    main()

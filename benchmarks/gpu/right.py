"""Right answers: of a served GPU against a served CPU, and of graphs against operators."""

import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.gpu.rows import Report
from benchmarks.models import DIGITS
from benchmarks.servers import Server, ours
from gsop.backends.base import Backend, Place, Values
from gsop.backends.torch_device import TorchBackend
from gsop.cuda_options import CudaOptions
from gsop.settings import Precision
from gsop.store.manifest import read_manifest
from gsop.train.presets import PRESETS

GATES_OFF = 0.02
"""The most that bfloat16 may move a gate: half of what it does on a CPU's emulation, doubled."""

GRAPHS_OFF = 0.02
"""The most that another size of batch may: cuDNN has other algorithms for it."""

SIZES = (1, 3, 6, 2, 64, 33, 1)
"""Of batches, in an order in which each graph is replayed after larger and smaller ones."""

CONNECTIONS = 64


def opened(
    folder: Path, device: str, precision: Precision, max_batch: int, options: str = ""
) -> Backend[Any]:
    """A published network on the device."""
    place = Place(device, precision, max_batch, cuda=CudaOptions.parse(options))
    return TorchBackend.open(folder, read_manifest(folder), place)


def check_others(report: Report, devices: int, count: int, **settings: str) -> None:
    """Answers of the second device alone, and of both together: no stream is the first one's."""
    if devices < 2:
        report.skip("a second device", f"{devices} is visible")
        return
    for device in ("cuda:1", "cuda:0,cuda:1"):
        check_served(report, device, count, **settings)


def check_served(report: Report, device: str, count: int, **settings: str) -> None:
    """Answers to different images over HTTP, as many at once as there are connections."""
    samples = PRESETS["digits"].open_data().held_out()[:count]
    images = [sample.image for sample in samples]
    expected = served(images, device="cpu")
    found = served(images, device=device, **settings)
    same = sum(winner(a) == winner(b) for a, b in zip(found, expected, strict=True))
    # One image of some hundred may stand between two classes, and fall on the other side.
    report.at_least(
        f"{device}: images with the CPU's best class", same, count - count // 200, "{:.0f}"
    )
    top1 = [
        sum(winner(a) == sample.label for a, sample in zip(answers, samples, strict=True))
        for answers in (found, expected)
    ]
    report.at_most(
        f"{device}: images named right, off the CPU's", abs(top1[0] - top1[1]), 1, "{:.0f}"
    )
    off = max(
        float(np.abs(gates_of(a) - gates_of(b)).max()) for a, b in zip(found, expected, strict=True)
    )
    report.at_most(f"{device}: gates off the CPU's float32", off, GATES_OFF)
    twice = repeated(found, expected)
    report.at_most(f"{device}: answers that another image has, too", twice, 0, "{:.0f}")


def served(images: Sequence[bytes], **settings: str) -> list[dict[str, Any]]:
    """The answers of the shipped model, with gates, by image."""
    with Server(ours(**settings), "digits", DIGITS.parent, images[0]) as server:
        limits = httpx.Limits(max_connections=CONNECTIONS)
        with httpx.Client(limits=limits, timeout=60) as client:

            def ask(image: bytes) -> dict[str, Any]:
                headers = {"Content-Type": "image/png"}
                query = {"attention": "true", "top_k": "10"}
                answer = client.post(server.url, content=image, headers=headers, params=query)
                return dict(answer.raise_for_status().json())

            with ThreadPoolExecutor(CONNECTIONS) as threads:
                return list(threads.map(ask, images))


def winner(answer: dict[str, Any]) -> int:
    """The best class."""
    return int(answer["predictions"][0]["class_id"])


def gates_of(answer: dict[str, Any]) -> Values:
    """All gates, one after the other."""
    return np.concatenate([np.ravel(gate["gate"]) for gate in answer["attention"]])


def repeated(found: Sequence[dict[str, Any]], expected: Sequence[dict[str, Any]]) -> int:
    """How many answers are exactly another image's, though the CPU's differ."""

    def key(answer: dict[str, Any]) -> bytes:
        return gates_of(answer).tobytes()

    distinct = len({key(answer) for answer in expected})
    return distinct - min(distinct, len({key(answer) for answer in found}))


def check_graphs(report: Report, folder: Path, device: str, most: int, options: str = "") -> None:
    """Each size of batch as it is replayed against the operators, one image at a time."""
    precision: Precision = "float32" if device == "cpu" else "bfloat16"
    backend = opened(folder, device, precision, most, options)
    spec = backend.manifest.input
    shape = (2 * most, spec.height, spec.width, 3)
    images = list(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    alone = np.stack([backend.result(backend.submit([image]))[0].copy() for image in images])
    backend.warm_up()
    off, at, flying = 0.0, 0, list[tuple[int, int, Any]]()
    for size in (*(min(size, most) for size in SIZES), 0, 0):
        if len(flying) == backend.depth or (not size and flying):
            start, count, pending = flying.pop(0)
            values = backend.result(pending)
            off = max(off, float(np.abs(values - alone[start : start + count]).max()))
        if size:
            at = (at + 1) % most
            flying.append((at, size, backend.submit(images[at : at + size])))
    what = f"{device}: batches of many sizes off images alone {options}"
    report.at_most(what.strip(), off, GRAPHS_OFF)


def check_training(report: Report, device: str) -> None:
    """A short training of the digits: it learns, is stopped in the middle and goes on."""
    short = ("--set", "schedule.steps=200", "--set", "schedule.warmup=20")
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        arguments = ("--recipe", "digits", *short, "--output", str(run), "--device", device)
        step = stopped(run, "train", *arguments)
        report.check("training stopped by SIGTERM", step > 0, f"after step {step}", "a step")
        run_gsop("train", "--resume", str(run), "--device", device)
        result = json.loads((run / "result.json").read_text())
    kind = device.partition(":")[0]
    report.check("trained on", result["device"] == kind, result["device"], kind)
    report.at_least("top-1 after 200 steps", result["top1"], 0.9)


def check_torchrun(report: Report, devices: int) -> None:
    """The same by ``torchrun``, a process a device: NCCL, and what processes know together."""
    short = ("--set", "schedule.steps=200", "--set", "schedule.warmup=20")
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", str(devices))
        training = ("gsop", "train", "--recipe", "digits", *short, "--output", str(run))
        run_module(*launcher, "-m", *training)
        result = json.loads((run / "result.json").read_text())
    processes = result["processes"]
    report.check("processes under torchrun", processes == devices, processes, f"{devices}")
    report.at_least("top-1 after 200 steps of theirs", result["top1"], 0.9)


def stopped(run: Path, *arguments: str) -> int:
    """The step after which a run stops that is asked to once it has logged two rows; 0: it ended.

    Raises:
        RuntimeError: with what it wrote, if it fails by itself.
    """
    command = [sys.executable, "-m", "gsop", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        log = run / "log.csv"
        while process.poll() is None:
            if log.exists() and len(log.read_text().splitlines()) > 2:  # a head, two rows
                process.terminate()
                break
            time.sleep(0.05)
        told, _ = process.communicate()
    found = re.search(r"stopped after step (\d+)", told)
    if process.returncode not in (0, 128 + signal.SIGTERM):
        raise RuntimeError(f"gsop {arguments[0]} failed:\n{told[-2000:]}")
    return int(found[1]) if found else 0


def run_gsop(*arguments: str) -> None:
    """A command of the package.

    Raises:
        RuntimeError: with what it wrote, if it fails.
    """
    run_module("gsop", *arguments)


def run_module(*arguments: str) -> None:
    """``python -m``.

    Raises:
        RuntimeError: with what it wrote, if it fails.
    """
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments[:2])} failed:\n{done.stderr[-2000:]}")

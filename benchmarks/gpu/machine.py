"""What the device, its driver and its tools say: before a figure is taken, and of its memory."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.gpu.rows import Report
from gsop.backends.gpus import NEEDED_DRIVERS

CORES = 16
"""That the goals are meant for."""

SANITIZER = "compute-sanitizer"
SANITIZER_SECONDS = 150.0
"""The most that it may take: under it each kernel takes many times as long."""

NEEDS_A_GPU = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]


def check_machine(report: Report) -> None:
    """What the goals take for granted."""
    query = "name,driver_version,memory.total,mig.mode.current,compute_mode"
    seen = _nvidia_smi(f"--query-gpu={query}", "--format=csv,noheader")
    if seen is None:
        report.skip("nvidia-smi", "it is not there, or fails: the driver's version is not known")
    else:
        report.tell("nvidia-smi", "; ".join(seen))
        needed = NEEDED_DRIVERS.get(int((torch.version.cuda or "0").partition(".")[0]), 0)
        driver = int(seen[0].split(", ")[1].partition(".")[0])
        report.at_least("NVIDIA driver", driver, needed, "{:.0f}")
        modes = {line.split(", ")[4] for line in seen}
        # Of two processes that measure and serve the second one would find no GPU.
        report.check("compute mode", modes == {"Default"}, ", ".join(sorted(modes)), "Default")
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]  # torch's own
    capability = ".".join(map(str, torch.cuda.get_device_capability()))
    report.tell("torch, cuDNN, capability", f"{torch.__version__}, {cudnn}, {capability}")
    cores = len(os.sched_getaffinity(0))
    report.tell("processors", f"{cores} (the goals are meant for {CORES})")


def check_tests(report: Report) -> None:
    """Those that need a GPU."""
    done = subprocess.run(NEEDS_A_GPU, capture_output=True, text=True, check=False)
    last = (done.stdout.strip().splitlines() or [""])[-1].strip("= ")
    good = done.returncode == 0 and "passed" in last and "skipped" not in last
    report.check("tests marked gpu", good, last, "all passed, none skipped")


def check_memory_accesses(report: Report, until: float) -> None:
    """The backends' tests again, each access to the device's memory looked at.

    Args:
        report: takes the row.
        until: seconds of the report at which it is given up.
    """
    what = f"{SANITIZER} --tool memcheck, errors"
    tool = shutil.which(SANITIZER, path=f"{os.environ.get('PATH', '')}:/usr/local/cuda/bin")
    if tool is None:
        report.skip(what, "it is not installed (of NVIDIA's CUDA toolkit)")
        return
    seconds = min(SANITIZER_SECONDS, until - report.seconds)
    command = [tool, "--tool", "memcheck", *NEEDS_A_GPU, "tests/backends"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        report.skip(what, f"it was not done after {seconds:.0f} s")
        return
    found = re.search(r"ERROR SUMMARY: (\d+) error", done.stdout + done.stderr)
    if found is None:
        report.check(what, False, (done.stdout + done.stderr)[-200:], "a summary")
        return
    report.at_most(what, int(found[1]), 0, "{:.0f}")


def memory_mib() -> float | None:
    """Device memory that all processes have; ``None`` where ``nvidia-smi`` does not tell."""
    seen = _nvidia_smi("--query-gpu=memory.used", "--format=csv,noheader,nounits")
    try:
        return None if seen is None else sum(float(line) for line in seen)
    except ValueError:  # as of some MIG slices
        return None


def holders(pids: list[int], proc: Path = Path("/proc")) -> list[int]:
    """Those processes that have a GPU open: who has a context on one does."""
    return [pid for pid in pids if any(map(_is_gpu, _open_files(proc / str(pid) / "fd")))]


def _is_gpu(name: str) -> bool:
    return re.fullmatch(r"/dev/nvidia\d+", name) is not None


def _open_files(folder: Path) -> list[str]:
    try:
        return [str(link.readlink()) for link in folder.iterdir()]
    except OSError:  # it has ended, or it is another user's
        return []


def _nvidia_smi(*arguments: str) -> list[str] | None:
    """What it says, by lines; ``None`` if it is not there, or fails."""
    try:
        done = subprocess.run(
            ["nvidia-smi", *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip().splitlines()

"""Processors that this process may use: its affinity, and its control groups' quota of their time.

A container with half a processor sees all of the machine's. What is sized by those only waits: for
its turn, and while the kernel holds it back for having had its share.
"""

import math
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path


def cpu_count() -> int:
    """Processors to size processes and threads by, at least 1; of a quota, rounded up."""
    quota = cpu_quota()
    count = _affinity()
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def describe_cpus() -> str:
    """The same in words, for the log."""
    quota = cpu_quota()
    told = "no quota" if quota is None else f"a quota of {quota:g}"
    return f"sized for {cpu_count()} processors ({_affinity()} by affinity, {told})"


@cache  # before this process may read nothing any more
def cpu_quota() -> float | None:
    """The smallest quota of the control groups that this process is in; ``None`` without one."""
    return read_quota(Path("/proc/self"))


def read_quota(process: Path) -> float | None:
    """The smallest quota that applies to a process, in processors.

    Control groups of both versions are looked at (cgroups(7)), each with those above it.

    Args:
        process: its folder of proc(5).
    """
    try:
        groups = (process / "cgroup").read_text().splitlines()
        mounts = (process / "mountinfo").read_text().splitlines()
    except OSError:
        return None
    quotas = [
        quota for folder in _folders(groups, mounts) if (quota := _quota_of(folder)) is not None
    ]
    return min(quotas, default=None)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _folders(groups: list[str], mounts: list[str]) -> Iterator[Path]:
    """Where the process's groups for processors lie, each before those above it."""
    for mount in mounts:
        before, _, after = mount.partition(" - ")
        fields, (kind, _, options) = before.split(), after.split(maxsplit=2)
        if kind == "cgroup2":
            paths = [line[3:] for line in groups if line.startswith("0::")]
        elif kind == "cgroup" and "cpu" in options.split(","):
            split = [line.split(":", 2) for line in groups]
            paths = [path for _, controllers, path in split if "cpu" in controllers.split(",")]
        else:
            continue
        root, point = fields[3], Path(fields[4])
        for path in paths:
            # In a container without a namespace of its own, the mount begins at its group.
            below = path.removeprefix(root) if root != "/" else path
            folder = point / below.strip("/")
            while folder != point.parent:
                yield folder
                folder = folder.parent


def _quota_of(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        if quota == "max" or int(quota) <= 0:
            return None
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None

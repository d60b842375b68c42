"""What a server's processes used, read from /proc: all of them, also those that have ended.

A process belongs to a server if it descends from the one that was started, or carries the mark
that was put into its environment (daemons leave the tree, but keep their environment).
"""

import os
from dataclasses import dataclass
from pathlib import Path

MARK = "GSOP_BENCHMARK_SERVER"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Stat:
    """One line of /proc/PID/stat.

    Attributes:
        parent: pid of the parent.
        seconds: CPU time of the process and of its children that ended and were waited for.
    """

    parent: int
    seconds: float


def parse_stat(text: str) -> Stat:
    """Read /proc/PID/stat; the command in it may hold spaces and parentheses (proc(5))."""
    fields = text.rpartition(")")[2].split()
    utime, stime, cutime, cstime = (int(field) for field in fields[11:15])
    return Stat(parent=int(fields[1]), seconds=(utime + stime + cutime + cstime) / TICKS)


def pss_bytes(pid: int) -> int:
    """Proportional set size: private memory, and each shared page divided by those who share it."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (OSError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))


def rss_bytes(pid: int) -> int:
    """Resident set size."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def members(root: int, mark: str) -> dict[int, Stat]:
    """The processes of a server: ``root``, what descends from it, and what carries ``mark``."""
    stats, marked = {}, {root}
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stats[int(entry.name)] = parse_stat((entry / "stat").read_text())
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                marked.add(int(entry.name))
        except (OSError, ProcessLookupError):
            continue
    while more := {p for p, stat in stats.items() if stat.parent in marked} - marked:
        marked |= more
    return {pid: stats[pid] for pid in marked if pid in stats}


class CpuMeter:
    """CPU seconds of a server since it was made. Differences are taken process by process.

    A daemon that ends unwaited for takes its time with it; of one that is replaced meanwhile,
    only what its successor used is counted.
    """

    def __init__(self, root: int, mark: str) -> None:
        self._root, self._mark = root, mark
        self._before = members(root, mark)

    def seconds(self) -> float:
        """All of its processes together."""
        before = sum(stat.seconds for stat in self._before.values())
        after = members(self._root, self._mark)
        gone = sum(
            stat.seconds
            for pid, stat in self._before.items()
            if pid not in after and stat.parent not in after
        )
        return sum(stat.seconds for stat in after.values()) - (before - gone)

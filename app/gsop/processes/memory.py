"""What a process takes of the memory, and what the C library does with what was freed."""

import ctypes
import resource
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4
"""Numbers of glibc's malloc.h."""


def keep_freed_memory() -> bool:
    """Let freed memory stay with this process, for its next batch.

    glibc gives every block above 32 MB back to the kernel when it is freed, and often smaller ones.
    The feature maps of a batch are such blocks: each would be asked for anew, page by page, zeroed
    by the kernel, for every layer of every batch. Measured in docs/performance.md.

    Returns:
        Whether the C library took it: other ones than glibc do not know how, and nothing changes.
    """
    return _set(
        {
            M_MMAP_MAX: 0,  # large blocks come from the heap too
            M_TRIM_THRESHOLD: 2**31 - 1,  # and the heap's end is not given back below 2 GiB
            M_TOP_PAD: 2**26,  # and grows by 64 MiB at once
        }
    )


def keep_freed_blocks(most_bytes: int) -> bool:
    """The same for blocks of up to ``most_bytes``: larger ones go back when they are freed."""
    return _set({M_MMAP_THRESHOLD: most_bytes, M_TRIM_THRESHOLD: most_bytes})


def _set(options: Mapping[int, int]) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    taken = [mallopt(option, value) for option, value in options.items()]
    return all(taken)


def resident_bytes() -> int:
    """Memory that this process has, with what it shares."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  # no file of anybody's
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:  # another system: the most that it ever had
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def available_bytes() -> int | None:
    """Memory that could be taken now: the machine's, or what this container has left of its own.

    ``None`` where the system does not tell.
    """
    known = [_machine_bytes(), *map(_left, _CGROUPS)]
    return min((count for count in known if count is not None), default=None)


_CGROUPS = (
    # Version 2, then 1: the limit, what is taken, and how much of that are files' old pages.
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)
"""Where a container sees its own memory, below ``/sys/fs/cgroup``."""


def _machine_bytes() -> int | None:
    with suppress(OSError, KeyError):
        return _numbers(Path("/proc/meminfo"))["MemAvailable:"] * 1024
    return None


def _left(names: tuple[str, str, str]) -> int | None:
    """What a limit leaves; ``None`` if there is none (``max``, or no such file)."""
    root = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):
        limit, taken = (int((root / name).read_text(encoding="ascii")) for name in names[:2])
        statistics = _numbers((root / names[1]).with_name("memory.stat"))
        return max(0, limit - taken + statistics.get(names[2], 0))  # old pages are given up
    return None


def _numbers(path: Path) -> dict[str, int]:
    """The numbers of a file with a name and a number in each line."""
    fields = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return {parts[0]: int(parts[1]) for parts in fields if len(parts) > 1 and parts[1].isdigit()}

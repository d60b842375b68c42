"""What a process takes of the memory, and what the C library does with what was freed."""

import ctypes
import resource
from collections.abc import Mapping

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

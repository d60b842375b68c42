"""What the C library does with freed memory, in a process that computes on the CPU."""

import ctypes
import logging

log = logging.getLogger("gsop.engine")

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Numbers of glibc's malloc.h."""


def keep_freed_memory() -> bool:
    """Let freed memory stay with this process, for its next batch.

    glibc gives every block above 32 MB back to the kernel when it is freed, and often smaller ones.
    The feature maps of a batch are such blocks: each would be asked for anew, page by page, zeroed
    by the kernel, for every layer of every batch. Measured in docs/performance.md.

    Returns:
        Whether the C library took it: other ones than glibc do not know how, and nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    taken = [
        mallopt(M_MMAP_MAX, 0),  # large blocks come from the heap too
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1),  # and the heap's end is not given back below 2 GiB
        mallopt(M_TOP_PAD, 2**26),  # and grows by 64 MiB at once
    ]
    return all(taken)

"""Memory that processes share: no file in any folder, gone with the last process that has it."""

import contextlib
import fcntl
import os
import tempfile

_MFD_NOEXEC_SEAL = 0x8
"""Of linux/memfd.h, since Linux 6.3: it can never be run as a program, and can be sealed. Where the
administrator has set ``vm.memfd_noexec`` to 2, no other memory is given."""


def anonymous_memory(name: str) -> int:
    """The descriptor of a new, empty piece of memory.

    It is a ``memfd`` (elsewhere an unlinked temporary file), so a container's limit of ``/dev/shm``
    does not matter.

    Args:
        name: what /proc shows.
    """
    if hasattr(os, "memfd_create"):
        try:
            return os.memfd_create(name, os.MFD_CLOEXEC | _MFD_NOEXEC_SEAL)
        except OSError:  # an older kernel
            return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def keep_size(descriptor: int) -> None:
    """Have the memory keep its size for good, whoever gets hold of it.

    Who reads beyond the end of memory that another process has cut short dies of SIGBUS. Where
    memory cannot be sealed (fcntl(2), "File Sealing") nothing happens.
    """
    if hasattr(fcntl, "F_ADD_SEALS"):
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)

"""Memory that processes share: no file in any folder, gone with the last process that has it."""

import os
import tempfile


def anonymous_memory(name: str) -> int:
    """The descriptor of a new, empty piece of memory.

    It is a ``memfd`` (elsewhere an unlinked temporary file), so a container's limit of ``/dev/shm``
    does not matter.

    Args:
        name: what /proc shows.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())

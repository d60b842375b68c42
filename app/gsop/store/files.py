"""Files that are on the disk when they are there at all. No torch."""

import os
import secrets
import stat
from pathlib import Path


def read_regular(path: Path, most: int) -> bytes:
    """An ordinary file's bytes: of a pipe or a device nothing is waited for.

    Raises:
        OSError: if it cannot be read, is no ordinary file, or has more than ``most`` bytes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123  # a descriptor has no path
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is no ordinary file")
        data = file.read(min(status.st_size, most) + 1)  # takes the memory before it reads
        if status.st_size < len(data) <= most:  # it has grown since
            data += file.read(most + 1 - len(data))
    if len(data) > most:
        raise OSError(f"it has more than {most} bytes")
    return data


def write_synced(path: Path, data: bytes) -> None:
    """Write a file, and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the disk has a folder's entries."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file in place of what is there; a reader sees one or the other, whole."""
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        write_synced(hidden, data)
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)
    sync_folder(path.parent)

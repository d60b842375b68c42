"""Paths: names that need not be UTF-8 or are nobody's own, places that must be writable."""

import os
from pathlib import Path

from gsop.errors import ConfigError

SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN"})
"""What archives, network drives and file systems leave behind, at any depth."""


def is_left_behind(name: str) -> bool:
    """Whether a file or folder is hidden, or the system's: nobody means it to be read."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def is_utf8(path: str | Path) -> bool:
    """Whether the name can be written as text: into JSON, a manifest, a table."""
    try:
        str(path).encode()
    except UnicodeEncodeError:  # Python keeps the system's bytes as surrogates
        return False
    return True


def printable(path: str | Path) -> str:
    """A name, or what holds some, as text in any case: bytes that are no UTF-8 become escapes."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def check_file(path: Path) -> None:
    """Whether a file can be written there; asked before what is to be written is computed.

    Raises:
        ConfigError: if it cannot.
    """
    place = path if path.exists() else path.parent
    if path.is_dir() or not place.exists() or not os.access(place, os.W_OK):
        raise ConfigError(f"{path} cannot be written: name a file in a folder that there is")


def check_folder(path: Path) -> None:
    """Whether a folder can be made there, or filled; asked before what it is to hold is computed.

    Raises:
        ConfigError: if it cannot.
    """
    place = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise ConfigError(f"{path} cannot be written: name a folder where one can be made")

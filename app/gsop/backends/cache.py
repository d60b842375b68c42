"""What is costly to make at a start, kept in files for the next one. No torch.

A file is named by a hash of all that its content depends on, so none is ever out of date. It begins
with a hash of its name and content: what is damaged, cut short or another file's is not taken.
Nothing here fails a start: what cannot be read is made again, what cannot be written is not kept.
"""

import hashlib
import json
import logging
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

log = logging.getLogger("gsop.engine")

MOST_BYTES = 4 * 2**30
"""Of all files together. Those that have not been used for longest go first."""

ABANDONED_SECONDS = 3600
"""A file that is still being written after so long has lost its writer."""

_HIDDEN, _SUFFIX = ".", ".cache"
_DIGEST = hashlib.sha256().digest_size


def key_of(facts: Mapping[str, Any]) -> str:
    """The name for what depends on ``facts``, JSON values, and on nothing else."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class Cache:
    """A folder of such files. Several processes may use it at once.

    Args:
        folder: made if it is not there, for this user alone. It is not used if somebody else could
            write to it: what is in it decides what the service answers.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> bytes | None:
        """What was kept under ``key``; ``None`` if there is nothing, or nothing sound."""
        path = self._path(key)
        try:
            self._check_owner()
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("%s cannot be read, and is made anew: %s", path, error)
            return None
        content = data[_DIGEST:]
        if data[:_DIGEST] != _digest(key, content):
            log.warning("%s is damaged, and is made anew", path)
            return None
        with suppress(OSError):  # read-only
            os.utime(path)
        return content

    def put(self, key: str, content: bytes) -> None:
        """Keep ``content`` under ``key``, whole or not at all, if the disk lets us."""
        path = self._path(key)
        hidden = path.with_name(f"{_HIDDEN}{path.name}.{secrets.token_hex(4)}")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_owner()
            try:
                with hidden.open("xb") as file:
                    file.write(_digest(key, content))
                    file.write(content)
                hidden.replace(path)
            except OSError:
                hidden.unlink(missing_ok=True)
                raise
            self._make_room(path)
        except OSError as error:
            log.warning(
                "nothing is kept in %s (%s), so each start takes as long as this one: make it "
                "writable to this user alone, set GSOP_CACHE to another folder, or to nothing",
                self._folder,
                error,
            )

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{_SUFFIX}"

    def _check_owner(self) -> None:
        """Refuse a folder that others can write to.

        Raises:
            PermissionError: if they can.
            FileNotFoundError: if there is none.
        """
        status = self._folder.stat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise PermissionError("others than this user can write to the folder")

    def _make_room(self, newest: Path) -> None:
        """Remove what was left half written, and what was not used for longest."""
        room, abandoned = MOST_BYTES, time.time() - ABANDONED_SECONDS
        files = []
        for path in self._folder.glob(f"*{_SUFFIX}*"):
            with suppress(FileNotFoundError):  # another process makes room, too
                files.append((path, path.stat()))
        for path, status in sorted(files, key=lambda file: -file[1].st_mtime):
            if path.name.startswith(_HIDDEN):
                if status.st_mtime < abandoned:
                    path.unlink(missing_ok=True)
                continue
            room -= status.st_size
            if room < 0 and path != newest:
                path.unlink(missing_ok=True)


def _digest(key: str, content: bytes) -> bytes:
    digest = hashlib.sha256(key.encode())
    digest.update(content)
    return digest.digest()

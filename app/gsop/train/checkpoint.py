"""Checkpoints: all that a run needs to go on as if it had never stopped.

Each is written under a temporary name, forced to the disk and renamed, so that a reader, and a
run that goes on, finds it whole or not at all.
"""

import io
import os
import re
from pathlib import Path
from typing import Any

import torch

from gsop.errors import SetupError

KEPT = 2
"""Newest checkpoints that stay: the last one, and one more in case that the disk spoils it."""

_NAME = re.compile(r"step-(\d+)\.pt")


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write ``state`` as the checkpoint after ``step`` steps, and drop those that are too old.

    Args:
        folder: of the checkpoints; created if there is none.
        step: optimiser steps done.
        state: tensors, numbers, texts, and containers of them: what ``weights_only`` loads.

    Returns:
        The file.

    Raises:
        OSError: if it cannot be written, as on a full disk; the older checkpoints are untouched.
    """
    buffer = io.BytesIO()  # torch.save reports a full disk in words of its own, and leaves a part
    torch.save(state, buffer)
    file = folder / f"step-{step:09}.pt"
    write_whole(file, buffer.getbuffer())
    for old in _newest_first(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return file


def load(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """The newest checkpoint that can be read: steps done, and the state; ``None`` if there is none.

    Raises:
        SetupError: if there are checkpoints, but none that can be read.
    """
    found = _newest_first(folder)
    reasons = []
    for file in found:
        try:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # noqa: BLE001 - zip, pickle and torch each raise their own
            reasons.append(f"{file.name}: {(str(error) or repr(error)).splitlines()[0]}")
            continue
        return _step(file), state
    if found:
        raise SetupError(
            f"no checkpoint in {folder} can be read ({'; '.join(reasons)}): restore one from a "
            "backup, or start the run anew in another folder"
        )
    return None


def newest_step(folder: Path) -> int:
    """Steps done at the newest checkpoint; 0 if there is none."""
    found = _newest_first(folder)
    return _step(found[0]) if found else 0


def write_whole(file: Path, data: bytes | memoryview) -> None:
    """Write a file so that it is there whole or, if anything fails, as it was before.

    Raises:
        OSError: if it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _newest_first(folder: Path) -> list[Path]:
    files = [file for file in folder.glob("step-*.pt") if _NAME.fullmatch(file.name)]
    return sorted(files, key=_step, reverse=True)


def _step(file: Path) -> int:
    match = _NAME.fullmatch(file.name)
    assert match is not None  # noqa: S101 - of the files that _newest_first lists
    return int(match[1])

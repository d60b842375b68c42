"""Weights that others saved: read from their files, in which nothing is run.

A ``.pth`` file is a pickle, and a pickle can carry any program. torch's restricted unpickler
(``weights_only=True``) builds tensors and plain values only and refuses the rest.
"""

import hashlib
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from gsop.errors import StoreError
from gsop.model.foreign_names import AVERAGED, WRAPPERS, is_no_part

_CHECKPOINT_FACTS = ("epoch", "arch", "best_prec1")
"""What the authors' checkpoints (and those of PyTorch's ImageNet example) say of themselves."""

_MOST_LETTERS = 200
"""Of what a checkpoint says of itself."""

_SHARED = 4
"""So many times a file's size its tensors may have, as some may share their numbers."""

_SPARE_BYTES = 2**20


def _number(kind: np.dtype[Any], data: bytes) -> float | int | bool:
    """In place of numpy's own: it makes numbers alone, and none larger than its bytes."""
    if kind.kind not in "biuf" or not isinstance(data, bytes) or len(data) != kind.itemsize:
        raise ValueError("no number")
    found: float | int | bool = np.frombuffer(data, kind)[0].item()
    return found


_NUMBERS: list[Any] = [
    *((_number, f"numpy.{part}.multiarray.scalar") for part in ("core", "_core")),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("?", *"bhilqBHILQefd")),
]
"""What single numbers of numpy are made by: an accuracy of that type lies beside many networks."""

SHOWN = 5
"""Keys that are listed by name."""


@dataclass(frozen=True)
class ForeignWeights:
    """A state dict, and what its file says beside it.

    Attributes:
        state_dict: tensors by key, on the CPU.
        facts: ``epoch``, ``arch`` and ``best_prec1`` (top-1, percent), as far as they are there.
        sha256: of the file, hexadecimal.
        passed_over: what else is in the file, and no part of a network.
    """

    state_dict: dict[str, Tensor]
    facts: dict[str, Any]
    sha256: str
    passed_over: tuple[str, ...] = ()


def read_weights(path: Path) -> ForeignWeights:
    """Read a bare state dict, or a checkpoint that holds one, perhaps inside of another.

    Args:
        path: ``*.safetensors``, or under any other name what ``torch.save`` writes.

    Raises:
        StoreError: if the file cannot be read, needs code of its own to be run, or holds no
            state dict.
    """
    try:
        with path.open("rb") as file:
            # Hash and tensors come from one open file: nobody can exchange it in between.
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            read = _read_safetensors if path.suffix == ".safetensors" else _read_pickle
            content = read(path, file)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error
    checkpoint = content if isinstance(content, Mapping) else {}
    found, passed_over = _network_of(content)
    return ForeignWeights(
        state_dict=_state_dict(path, found),
        facts=_facts(checkpoint),
        sha256=digest,
        passed_over=passed_over,
    )


def report_passed_over(keys: Sequence[str]) -> None:
    """Say what of a file was not taken."""
    if keys:
        more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
        named = ", ".join(keys[:SHOWN])
        print(f"passed over, as no part of a network: {named}{more}")


def with_batch_counts(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with a counter, at 0, for each BN that has none.

    PyTorch has BNs count their batches since 0.4.1; files from before, many of torchvision's among
    them, are whole without. The counter matters only to a BN without momentum, which ours have.
    """
    complete = dict(state_dict)
    for key in state_dict:
        if key.endswith(".running_mean"):
            counter = f"{key.removesuffix('running_mean')}num_batches_tracked"
            complete.setdefault(counter, torch.tensor(0))
    return complete


def _read_safetensors(path: Path, file: BinaryIO) -> object:
    try:
        return safetensors.torch.load(file.read())
    except SafetensorError as error:
        raise StoreError(f"{path} is no safetensors file ({error}): copy it again") from error


def _read_pickle(path: Path, file: BinaryIO) -> object:
    _check_archive(path, file)
    try:
        with torch.serialization.safe_globals(_NUMBERS):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch lets through whatever a damaged file makes it trip over
        if code := re.search(r"GLOBAL (\S+)", str(error)):
            raise StoreError(
                f"{path} wants {ascii(code[1])[1:-1]} to be run when it is opened, and code in "
                "files is never run: open it where you trust it, and save its tensors alone, with "
                "torch.save(model.state_dict(), file)"
            ) from error
        raise StoreError(
            f"{path} is no file that torch.save wrote, or it is damaged: copy it again, or save "
            "it anew with torch.save(model.state_dict(), file)"
        ) from error


def _check_archive(path: Path, file: BinaryIO) -> None:
    """Refuse what would become larger than its file: torch.save stores members as they are."""
    remedy = "save it anew with torch.save(model.state_dict(), file)"
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise StoreError(f"{path} holds compressed members, as torch never does: {remedy}")
            if sum(member.file_size for member in members) > _size(file):
                raise StoreError(f"{path} holds members that overlap: {remedy}")
    except zipfile.BadZipFile as error:
        raise StoreError(f"{path} is a damaged archive: copy it again, or {remedy}") from error
    finally:
        file.seek(0)


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _network_of(content: object) -> tuple[object, tuple[str, ...]]:
    """The innermost state dict of a checkpoint, averaged weights first, and what lay beside it."""
    beside: list[str] = []
    while isinstance(content, Mapping):
        inner = [key for key in content if key in WRAPPERS and isinstance(content[key], Mapping)]
        inner.sort(key=lambda key: key not in AVERAGED)
        inner = [key for key in inner if content[key]]
        if not inner:
            kept = {key: value for key, value in content.items() if not _is_beside(key, value)}
            beside += [str(key) for key in content if key not in kept]
            return kept or content, tuple(beside)
        beside += [str(key) for key in content if key != inner[0] and key not in _CHECKPOINT_FACTS]
        content = content[inner[0]]
    return content, tuple(beside)


def _is_beside(key: object, value: object) -> bool:
    return isinstance(key, str) and not _is_plain_tensor(value) and is_no_part(key)


def _state_dict(path: Path, content: object) -> dict[str, Tensor]:
    remedy = "save it anew with torch.save(model.state_dict(), file)"
    if not isinstance(content, Mapping) or not content:
        raise StoreError(f"{path} holds no state dict: {remedy}")
    for key, tensor in content.items():
        if not isinstance(key, str) or not key.isprintable() or not _is_plain_tensor(tensor):
            raise StoreError(
                f"{path} holds no state dict, for {key!r} is no dense tensor: {remedy}"
            )
    size = sum(tensor.nbytes for tensor in content.values())
    if size > _SHARED * path.stat().st_size + _SPARE_BYTES:
        raise StoreError(
            f"{path} holds tensors of {size} bytes, many times what the file has: {remedy}"
        )
    return with_batch_counts(content)


def _is_plain_tensor(value: object) -> TypeGuard[Tensor]:
    """Whether it can be copied into a parameter: dense, real, and with all of its numbers."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not (value.is_complex() or value.is_quantized or value.is_meta)
        # A stride of 0 makes terabytes of one number.
        and value.nbytes <= value.untyped_storage().nbytes()
    )


def _facts(checkpoint: Mapping[Any, Any]) -> dict[str, Any]:
    facts = {name: _plain_value(checkpoint.get(name)) for name in _CHECKPOINT_FACTS}
    return {name: value for name, value in facts.items() if _is_short(value)}


def _is_short(value: object) -> bool:
    """Whether it is a number or a short text that a terminal shows as it is."""
    if isinstance(value, str):
        return value.isprintable() and len(value) <= _MOST_LETTERS
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63)


def _plain_value(value: object) -> object:
    """A number that was saved as a tensor, as the release's ``best_prec1`` is, or the value."""
    return value.item() if _is_plain_tensor(value) and value.numel() == 1 else value

"""Weights on disk: loaded only if they are exactly what the manifest says, published whole or not.

The one module of the store that imports torch; :mod:`gsop.store.catalog` lists without it.
"""

import hashlib
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gsop.errors import StoreError
from gsop.gates.reference import Reference
from gsop.images import InputSpec
from gsop.model.resnet import GSoPResNet
from gsop.store.catalog import is_name
from gsop.store.files import read_regular, sync_folder, write_synced
from gsop.store.manifest import (
    FORMAT,
    MANIFEST_FILE,
    WEIGHTS_FILE,
    Manifest,
    read_manifest,
    validation_reasons,
)
from gsop.store.reference import REFERENCE_FILE, encode_reference, read_reference

MOST_WEIGHTS_BYTES = 2**36
"""Of a version's weights; a network of this kind has some hundred megabytes."""


def load(folder: Path) -> tuple[Manifest, GSoPResNet]:
    """The version in ``folder``, verified.

    Returns:
        Its manifest, and its network on the CPU in evaluation mode.

    Raises:
        StoreError: if the manifest cannot be read, or the weights are not those it describes:
            another hash, or a key, shape, dtype or number that does not fit the network.
    """
    manifest = read_manifest(folder)
    path = folder / WEIGHTS_FILE
    # Hash and tensors come from the same bytes, so nothing can change in between.
    weights = _parse(path, _read_hashed(path, manifest.sha256))
    _check_fit(path, weights, _shapes_of(manifest, path))
    model = GSoPResNet(manifest.config)
    model.load_state_dict(weights)
    return manifest, model.eval()


class _Unfilled(TorchFunctionMode):
    """Networks are made without their first numbers.

    On the meta device these are nothing, but torch imports its reference implementations for them,
    which takes a second.
    """

    FILLS = frozenset({"normal_", "uniform_", "fill_", "zero_"})

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Leave a tensor as it is that a function of :data:`FILLS` is to fill."""
        named = kwargs or {}
        if func.__name__ in self.FILLS:
            return args[0] if args else named["tensor"]
        return func(*args, **named)


def _shapes_of(manifest: Manifest, path: Path) -> dict[str, Tensor]:
    """The network's tensors without their numbers.

    A few bytes of a manifest may tell of more than there is memory for; they are believed only
    once weights of that size are there.
    """
    try:
        with torch.device("meta"), _Unfilled():
            return GSoPResNet(manifest.config).state_dict()
    except (RuntimeError, TypeError) as error:  # TypeError: of a number over 64 bits
        raise StoreError(
            f"{path.with_name(MANIFEST_FILE)} tells of a network that no memory could hold: "
            "correct 'config', or publish the version again"
        ) from error


def verify(folder: Path) -> Manifest:
    """Check the version in ``folder`` as :func:`load` does, and return its manifest.

    Raises:
        StoreError: as :func:`load` does; or if the version's reference is damaged.
    """
    manifest, _ = load(folder)
    read_reference(folder, manifest)
    return manifest


def check_new_version(root: Path, name: str, version: str) -> Path:
    """The folder that the new version will have; asked before the hours that training takes.

    Raises:
        StoreError: if the version exists, or a name is none.
    """
    for text in (name, version):
        if not is_name(text):
            raise StoreError(
                f"{text!r} cannot name a model or version: use letters, digits, '.', '_' and '-', "
                "at most 64, beginning with a letter or digit"
            )
    folder = root / name / version
    if folder.exists():
        raise _already_exists(folder)
    return folder


def publish(
    root: Path,
    model: GSoPResNet,
    *,
    name: str,
    version: str,
    input: InputSpec,
    labels: Sequence[str],
    metrics: Mapping[str, Any],
    provenance: Mapping[str, Any],
    temperature: float = 1.0,
    reference: Reference | None = None,
) -> Path:
    """Write ``model`` as a new version; a reader sees the whole version or none.

    All is written to a hidden folder beside the version's, forced to the disk, and renamed. A
    writer that dies leaves at most that hidden folder, which no reader looks at.

    Args:
        root: the store; created if there is none.
        model: on any device.
        name: of the model.
        version: a new one of that model.
        input: how an image is prepared for it.
        labels: one text a class, in the order of the logits.
        metrics: what was measured, and how; JSON values.
        provenance: where the weights come from; JSON values.
        temperature: that its logits are divided by before the softmax.
        reference: what its gates look like on held-out images, if that was measured.

    Returns:
        The version's folder, ``root/name/version``.

    Raises:
        StoreError: if the version exists, a name or the labels do not fit, a weight is not
            finite, or the store cannot be written.
    """
    folder = check_new_version(root, name, version)
    tensors = {key: t.detach().cpu().contiguous() for key, t in model.state_dict().items()}
    _check_finite(f"the model to publish as {name}/{version}", tensors)
    weights = safetensors.torch.save(tensors)
    try:
        manifest = Manifest(
            format=FORMAT,
            name=name,
            version=version,
            config=model.config,
            input=input,
            labels=tuple(labels),
            temperature=temperature,
            metrics=dict(metrics),
            sha256=hashlib.sha256(weights).hexdigest(),
            created=datetime.now(UTC).replace(microsecond=0),
            provenance=dict(provenance),
        )
    except ValidationError as error:
        raise StoreError(
            f"{name}/{version} cannot be published: {validation_reasons(error)}"
        ) from error
    try:
        with _appearing_whole(folder) as hidden:
            write_synced(hidden / WEIGHTS_FILE, weights)
            if reference is not None:
                data = encode_reference(reference, manifest.sha256)
                write_synced(hidden / REFERENCE_FILE, data)
            text = manifest.model_dump_json(indent=2) + "\n"
            write_synced(hidden / MANIFEST_FILE, text.encode())
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error}") from error
    return folder


def _already_exists(folder: Path) -> StoreError:
    return StoreError(f"{folder} exists, and versions never change: publish under a new version")


def _read_hashed(path: Path, sha256: str) -> bytes:
    try:
        data = read_regular(path, MOST_WEIGHTS_BYTES)
    except FileNotFoundError:
        raise StoreError(f"{path} is missing: publish the version again") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise StoreError(
            f"{path} has SHA-256 {found}, its manifest says {sha256}: the file was changed or "
            "only partly copied; copy or publish the version again"
        )
    return data


def _parse(path: Path, data: bytes) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(data)
    except SafetensorError as error:
        raise StoreError(
            f"{path} is no safetensors file ({error}): publish the version again"
        ) from error


def _check_fit(path: Path, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse weights that differ from ``expected`` in a key, shape or dtype, or are not finite."""
    remedy = f"correct 'config' in {MANIFEST_FILE}, or publish the version again"
    if missing := sorted(expected.keys() - weights.keys()):
        raise StoreError(f"{path} lacks {_shortened(missing)}: {remedy}")
    if extra := sorted(weights.keys() - expected.keys()):
        raise StoreError(f"{path} has {_shortened(extra)}, which the network has not: {remedy}")
    for key, wanted in expected.items():
        found = weights[key]
        if found.shape != wanted.shape:
            raise StoreError(
                f"{path}: {key} has shape {tuple(found.shape)}, "
                f"the network's has {tuple(wanted.shape)}: {remedy}"
            )
        if found.dtype != wanted.dtype:
            raise StoreError(
                f"{path}: {key} is {found.dtype}, the network's is {wanted.dtype}: "
                "publish the version again"
            )
    _check_finite(str(path), weights)


def _check_finite(source: str, weights: Mapping[str, Tensor]) -> None:
    for key, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise StoreError(
                f"{source}: {key} holds NaN or infinity: the training diverged; "
                "publish from a sound checkpoint"
            )


def _shortened(keys: Sequence[str], at_most: int = 3) -> str:
    shown = ", ".join(keys[:at_most])
    return shown if len(keys) <= at_most else f"{shown} and {len(keys) - at_most} more keys"


@contextmanager
def _appearing_whole(folder: Path) -> Iterator[Path]:
    """A hidden folder to write into, which becomes ``folder`` at the end, or is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    hidden = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    hidden.mkdir()
    try:
        yield hidden
        sync_folder(hidden)
        try:
            hidden.rename(folder)
        except OSError as error:
            # Another publisher was quicker: a folder is never renamed onto one that holds files.
            if folder.exists():
                raise _already_exists(folder) from error
            raise
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)

"""A version's reference on disk, beside its weights. No torch.

``reference.safetensors`` holds arrays, and in its header whose they are: the digest of the weights,
the facts, and the digest of facts and arrays. It is no part of what the manifest vouches for: a
version with a reference that is damaged, or without one, serves as well.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from gsop.errors import StoreError
from gsop.gates.reference import Facts, Reference
from gsop.store.files import replace_file
from gsop.store.manifest import Manifest

REFERENCE_FILE = "reference.safetensors"

MOST_BYTES = 1 << 30
"""A larger file is none of ours."""


def encode_reference(reference: Reference, weights: str) -> bytes:
    """The file of a reference.

    Args:
        reference: of the version.
        weights: SHA-256 of the version's weights.
    """
    header = {
        "weights": weights,
        "facts": reference.facts.model_dump_json(),
        "digest": reference.digest,
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in reference.arrays.items()}
    return safetensors.numpy.save(arrays, header)


def read_reference(folder: Path, manifest: Manifest) -> Reference | None:
    """The reference of the version in ``folder``; ``None`` if it brings none.

    Raises:
        StoreError: if the file is damaged, or of other weights.
    """
    path = folder / REFERENCE_FILE
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        header, arrays = _read(path)
        if header.get("weights") != manifest.sha256:
            raise ValueError("it was made for other weights")
        facts = Facts.model_validate_json(header.get("facts", ""))
        reference = Reference.unpack(manifest.answer, facts, arrays)
        if reference.digest != header.get("digest"):
            raise ValueError("its digest is another one: the file was changed")
    except FileNotFoundError:
        return None
    except ValidationError as error:
        reason = f"what it says of itself is not valid, {error.error_count()} times"
    except (OSError, SafetensorError, ValueError) as error:
        reason = str(error)
    else:
        return reference
    raise StoreError(
        f"{path} is no reference of {manifest.name}/{manifest.version} ({reason}): make it anew "
        f"with `gsop models reference {manifest.name}/{manifest.version}`, or remove the file"
    )


def write_reference(folder: Path, manifest: Manifest, reference: Reference) -> Path:
    """Write the reference of the version in ``folder``, whole or not at all, in place of another.

    Raises:
        StoreError: if it cannot be written.
    """
    path = folder / REFERENCE_FILE
    try:
        replace_file(path, encode_reference(reference, manifest.sha256))
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error}") from error
    return path


def _read(path: Path) -> tuple[Mapping[str, str], dict[str, npt.NDArray[Any]]]:
    with safe_open(path, "np") as file:
        names = file.keys()
        return file.metadata() or {}, {name: file.get_tensor(name) for name in names}

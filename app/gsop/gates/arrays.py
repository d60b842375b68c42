"""Named arrays that come from elsewhere, a file or another process, held to what they must be."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]

Forms = Mapping[str, tuple[npt.DTypeLike, str]]
"""By name, an array's type and its dimensions, a letter each; one letter is one size everywhere."""


def check_arrays(arrays: Mapping[str, npt.NDArray[Any]], forms: Forms, **sizes: int) -> None:
    """Refuse arrays that are not of these forms, or not finite.

    Args:
        arrays: to be checked.
        forms: which there must be.
        sizes: of the dimensions that are known, by letter.

    Raises:
        ValueError: naming the first that is wrong, and how.
    """
    if arrays.keys() != forms.keys():
        odd = ", ".join(sorted(arrays.keys() ^ forms.keys()))
        raise ValueError(f"it lacks, or should not have, {odd}")
    for name, (dtype, dimensions) in forms.items():
        array = arrays[name]
        wanted = tuple(sizes.get(letter, "any") for letter in dimensions)
        for letter, size in zip(dimensions, array.shape, strict=False):
            sizes.setdefault(letter, size)
        if array.dtype != dtype or array.shape != tuple(sizes.get(d, -1) for d in dimensions):
            raise ValueError(
                f"{name} is {array.dtype} of shape {array.shape}, not {np.dtype(dtype)} of {wanted}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinity")


def digest_of(arrays: Mapping[str, npt.NDArray[Any]], text: str = "") -> str:
    """SHA-256 over a text and the arrays' names, types, shapes, values; lower-case hexadecimal."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()

"""The input ``pixels``: what a network sees, made by the client. Pure.

UINT8 is 0 to 255, as ``POST /preprocess`` has it. FP32 is the same of 0 to 1, before mean and
deviation; slots hold bytes, so it is rounded to the nearest 255th, by at most 1/510. Whoever made
it of bytes (as torchvision's ``ToTensor`` does) gets just these bytes back.
"""

import array
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gsop.api.oip.tensors import Tensor, flat
from gsop.errors import RequestError
from gsop.images import InputSpec

PIXELS = "pixels"
"""The input's name."""

DATATYPES: dict[str, np.dtype[Any]] = {"UINT8": np.dtype(np.uint8), "FP32": np.dtype("<f4")}

Pixels = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]


def pixels_of(tensor: Tensor, spec: InputSpec, most: int) -> Sequence[Pixels]:
    """A tensor's images, each ``(3, H, W)``, R, G, B.

    Args:
        tensor: of the input ``pixels``.
        spec: what the network wants.
        most: images in one request.

    Raises:
        RequestError: if they are too many, or not as they should be.
    """
    dtype = DATATYPES.get(tensor.datatype)
    if dtype is None:
        raise RequestError(f"input {PIXELS!r} is {tensor.datatype}; send it as UINT8 or FP32")
    one = (3, spec.height, spec.width)
    wanted = f"[N, 3, {spec.height}, {spec.width}]"
    if tensor.shape[1:] != one or tensor.shape[0] < 1:
        raise RequestError(
            f"input {PIXELS!r} has the shape {list(tensor.shape)}; send {wanted}, "
            "with R, G and B of an image one after the other"
        )
    if tensor.shape[0] > most:
        raise RequestError(
            f"input {PIXELS!r} has {tensor.shape[0]} images; at most {most} go in one request"
        )
    if tensor.raw is not None:
        values = _of_bytes(tensor.raw, tensor.size, dtype)
    else:
        values = _of_values(flat(tensor.data, tensor.size + 1), tensor.size, dtype)
    return list((values if dtype == np.uint8 else _bytes_of(values)).reshape(-1, *one))


def _of_bytes(raw: memoryview, size: int, dtype: np.dtype[Any]) -> Array:
    if len(raw) != size * dtype.itemsize:
        raise RequestError(
            f"input {PIXELS!r} has {len(raw)} bytes; its shape and datatype tell of "
            f"{size * dtype.itemsize}"
        )
    return np.frombuffer(raw, dtype)


def _of_values(values: list[Any], size: int, dtype: np.dtype[Any]) -> Array:
    if len(values) != size:
        told = "more" if len(values) > size else len(values)
        raise RequestError(f"input {PIXELS!r} holds {told} values; its shape tells of {size}")
    try:
        if dtype == np.uint8:
            return np.frombuffer(bytes(values), np.uint8)
        return np.frombuffer(array.array("f", values), np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        what = "whole numbers of 0 to 255" if dtype == np.uint8 else "numbers of 0 to 1"
        raise RequestError(f"input {PIXELS!r} holds what is none of the {what}") from error


def _bytes_of(values: Array) -> Pixels:
    """Numbers of 0 to 1 as bytes."""
    least, most = float(values.min()), float(values.max())
    if not (least >= 0 and most <= 1):  # nor if one is NaN
        told = "holds NaN" if math.isnan(least + most) else f"goes from {least:g} to {most:g}"
        raise RequestError(
            f"input {PIXELS!r} {told}; as FP32 it goes from 0 to 1, and is normalised "
            "here: send it as it is before mean and deviation"
        )
    return np.rint(values * np.float32(255)).astype(np.uint8)

"""Tensors of the Open Inference Protocol: shapes, datatypes, and what lies behind them. Pure.

A tensor comes as raw bytes (little endian, rows first) or as JSON values, flat or nested. Every
size that a request tells is compared with the bytes that are there before anything is made of it,
so nothing is ever allocated because a number says so.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from struct import Struct
from typing import Any

from gsop.errors import RequestError

DATATYPES = frozenset(
    (
        *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
        *("FP16", "FP32", "FP64"),
    )
)
"""Those whose elements are of one size."""

BYTES = "BYTES"
"""The datatype whose elements are of any size."""

MOST_DIMENSIONS = 8

MOST_TENSORS = 256
"""That a request may name."""

MOST_VALUES = 250_000
"""That do not come as raw bytes: one image's pixels, and no more than milliseconds to build."""

_LENGTH = Struct("<I")


@dataclass(frozen=True)
class Tensor:
    """A tensor of a request.

    Attributes:
        name: of the model's input that it is for.
        datatype: as the protocol calls it.
        shape: as it is told.
        raw: its bytes, where they came as such.
        data: its JSON values, where they came as such.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: memoryview | None = None
    data: Any = None

    @property
    def size(self) -> int:
        """Elements that the shape tells of."""
        return math.prod(self.shape)

    def elements(self, most: int) -> list[bytes]:
        """The elements of a BYTES tensor: as they are, or base64 text where they came in JSON.

        Raises:
            RequestError: if they are more than ``most``, or others than the shape tells.
        """
        if self.datatype != BYTES:
            raise RequestError(f"input {self.name!r} is {self.datatype}; send it as {BYTES}")
        if self.size > most:
            raise RequestError(
                f"input {self.name!r} has {self.size} elements; at most {most} go in one request"
            )
        if self.raw is not None:
            found = list(self._split(self.raw, most))
        else:
            found = [self._text(value) for value in flat(self.data, most + 1)]
        if len(found) != self.size:
            raise RequestError(
                f"input {self.name!r} holds {len(found)} elements, and its shape {_told(self)} "
                f"tells of {self.size}"
            )
        return found

    def _split(self, raw: memoryview, most: int) -> Iterator[bytes]:
        at, count = 0, 0
        while at < len(raw):
            begin = at + _LENGTH.size
            if begin > len(raw):
                raise RequestError(f"input {self.name!r} ends within the length of an element")
            (length,) = _LENGTH.unpack_from(raw, at)
            if length > len(raw) - begin:
                raise RequestError(
                    f"element {count} of input {self.name!r} is to have {length} bytes, and only "
                    f"{len(raw) - begin} follow"
                )
            if count == most:
                raise RequestError(f"input {self.name!r} has more than {most} elements")
            at, count = begin + length, count + 1
            yield bytes(raw[begin:at])

    def _text(self, value: Any) -> bytes:
        if not isinstance(value, str):
            raise RequestError(f"input {self.name!r} holds what is no text: send base64")
        return value.encode("utf-8", "surrogatepass")


def check_shape(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """A shape as it can be.

    Raises:
        RequestError: if it has too many dimensions, or negative ones.
    """
    if len(shape) > MOST_DIMENSIONS or any(length < 0 for length in shape):
        raise RequestError(
            f"tensor {name!r} has a shape that none can have: at most {MOST_DIMENSIONS} dimensions "
            "of at least 0"
        )
    return tuple(shape)


def flat(data: Any, most: int) -> list[Any]:
    """Values in lists of lists, rows first; at most ``most`` of them, and what lists nest in them.

    Raises:
        RequestError: if it is no list, or nested too deep.
    """
    if not isinstance(data, list):
        raise RequestError('"data" must be a list')
    values = data
    for _ in range(MOST_DIMENSIONS):
        values = values[:most]
        kinds = set(map(type, values))
        if list not in kinds:
            return values
        if len(kinds) > 1:
            raise RequestError('"data" mixes lists with values')
        values = list(chain.from_iterable(values))
    raise RequestError(f'"data" is nested in more than {MOST_DIMENSIONS} lists')


def pack_elements(elements: Sequence[bytes]) -> bytes:
    """BYTES elements as raw bytes."""
    return b"".join(part for e in elements for part in (_LENGTH.pack(len(e)), e))


def _told(tensor: Tensor) -> list[int]:
    return list(tensor.shape)

"""A ``ModelInferRequest`` as its bytes, looked over before it is taken apart. Pure.

Two bytes of a message may become ninety of memory: an empty tensor, a dimension, a value. So
whatever is many is counted here, where it costs nothing yet. What is long (images) is passed over.
"""

from collections.abc import Mapping
from typing import NamedTuple

from gsop.api.oip.tensors import MOST_DIMENSIONS, MOST_VALUES
from gsop.errors import RequestError

MOST_FIELDS = 4096
"""Of a message and what lies in it: tensors, images, parameters, names."""

LONGEST_VALUE = 10
"""Bytes of a number."""

_VARINT, _LONG, _TEXT, _SHORT = 0, 1, 2, 5


class _Kind(NamedTuple):
    """A message's kind: of which fields each is another one, and in which numbers are packed."""

    inner: Mapping[int, "_Kind"] = {}
    packed: Mapping[int, int] = {}


_CONTENTS = _Kind(packed=dict.fromkeys(range(1, 8), LONGEST_VALUE * MOST_VALUES))
_INPUT = _Kind(inner={5: _CONTENTS}, packed={3: LONGEST_VALUE * MOST_DIMENSIONS})
_REQUEST = _Kind(inner={5: _INPUT, 6: _Kind()})


def look_over(data: bytes) -> None:
    """Whether a message may be taken apart.

    Raises:
        RequestError: if it holds too much, or is none.
    """
    _Walk(data).through(_REQUEST, 0, len(data))


class _Walk:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._fields = self._packed = 0

    def through(self, kind: _Kind, at: int, end: int) -> None:
        while at < end:
            self._fields += 1
            if self._fields > MOST_FIELDS:
                raise RequestError(
                    f"the message has more than {MOST_FIELDS} fields; send values in "
                    "raw_input_contents, and fewer tensors"
                )
            key, at = self._number(at, end)
            field, form = key >> 3, key & 7
            if form == _VARINT:
                _, at = self._number(at, end)
            elif form == _TEXT:
                length, at = self._number(at, end)
                if length > end - at:
                    raise _broken()
                self._look_into(kind, field, at, length)
                at += length
            elif form in (_LONG, _SHORT):
                at += 8 if form == _LONG else 4
            else:
                raise _broken()
        if at > end:
            raise _broken()

    def _look_into(self, kind: _Kind, field: int, at: int, length: int) -> None:
        if field in kind.inner:
            self.through(kind.inner[field], at, at + length)
        elif field in kind.packed:
            self._packed += length
            if length > kind.packed[field] or self._packed > LONGEST_VALUE * MOST_VALUES:
                raise RequestError(
                    "the message has too many values in contents, or too many dimensions; send "
                    "values in raw_input_contents"
                )

    def _number(self, at: int, end: int) -> tuple[int, int]:
        """A number of variable length, and where it ends."""
        value = shift = 0
        for place in range(at, min(end, at + LONGEST_VALUE)):
            byte = self._data[place]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, place + 1
            shift += 7
        raise _broken()


def _broken() -> RequestError:
    return RequestError("the message is none of this call")

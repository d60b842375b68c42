"""A text that one process writes anew from time to time, and every other reads when it likes.

Written whole: into the one of two places that is not read now, and only then is it said that this
is the one. A checksum finds out a reader that was overtaken twice in between; it reads again.
"""

import zlib
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")

MOST_BYTES = 1 << 18

BULLETIN = np.dtype(
    [
        ("revision", np.uint64),  # how often it was written; the newest text lies in its last bit
        ("length", np.uint32, 2),
        ("checksum", np.uint32, 2),
        ("text", np.uint8, (2, MOST_BYTES)),
    ],
    align=True,
)


class Writer:
    """The one who writes."""

    def __init__(self, record: npt.NDArray[Any]) -> None:
        self._record = record

    def write(self, text: bytes) -> None:
        """Replace the text.

        Raises:
            ValueError: if it is longer than there is room for.
        """
        if len(text) > MOST_BYTES:
            raise ValueError(f"{len(text)} bytes; there is room for {MOST_BYTES}")
        revision = int(self._record["revision"]) + 1
        place = revision % 2
        self._record["text"][place, : len(text)] = np.frombuffer(text, np.uint8)
        self._record["length"][place] = len(text)
        self._record["checksum"][place] = zlib.crc32(text)
        self._record["revision"] = revision


class Bulletin(Generic[T]):
    """What a reader makes of the text; made anew only when there is another."""

    def __init__(self, record: npt.NDArray[Any], parse: Callable[[bytes], T]) -> None:
        self._record = record
        self._revision = record["revision"]
        self._parse = parse
        self._seen = -1
        self._value: T

    @property
    def value(self) -> T:
        """Of the newest text; of none, before the first."""
        revision = self._revision.item()
        if revision != self._seen:
            self._value, self._seen = self._parse(self._read()), revision
        return self._value

    def _read(self) -> bytes:
        while True:
            place = self._revision.item() % 2
            text = self._record["text"][place, : self._record["length"][place]].tobytes()
            if zlib.crc32(text) == self._record["checksum"][place]:
                return text

"""Images as fields of a ``multipart/form-data`` body (RFC 7578)."""

import logging
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

from gsop.api.http.bodies.field import FIELD
from gsop.errors import RequestError

# Its warnings quote the body, and everybody could fill the log with them.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)

MAX_OTHER_PARTS = 32
"""Multipart fields of other names that are passed over before the request is refused."""


def images_of_form(body: bytes, boundary: bytes, max_images: int) -> list[bytes]:
    """The images, ``max_images`` at most; raises :class:`RequestError` if it holds none."""
    if not boundary:
        raise RequestError("multipart/form-data without a boundary; let your HTTP client set it")
    form = _Form(max_images)
    try:
        parser = MultipartParser(boundary, form.callbacks)
        parser.write(body)
    except FormParserError as error:
        raise RequestError(f"the multipart body is broken ({error})") from error
    if not form.is_complete:
        raise RequestError("the multipart body ends before its last boundary")
    if not form.images:
        raise RequestError(f"the multipart body has no field named {FIELD!r}")
    return form.images


class _Form:
    """Collects the parts that are named :data:`FIELD` and passes over the others."""

    def __init__(self, max_images: int) -> None:
        self.images: list[bytes] = []
        self.is_complete = False
        self._max_images = max_images
        self._others = 0
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = b""
        self._data: bytearray | None = None
        self.callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._add_header,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._add_data,
            "on_part_end": self._end,
            "on_end": self._complete,
        }

    def _begin(self) -> None:
        self._disposition, self._data = b"", None

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") == FIELD.encode():
            if len(self.images) == self._max_images:
                raise RequestError(
                    f"more than {self._max_images} images in one request; send several requests"
                )
            self._data = bytearray()
            return
        self._others += 1
        if self._others > MAX_OTHER_PARTS:
            raise RequestError(f"too many multipart fields beside {FIELD!r}")

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._data is not None:
            self._data += memoryview(data)[start:end]

    def _end(self) -> None:
        if self._data is not None:
            self.images.append(bytes(self._data))

    def _complete(self) -> None:
        self.is_complete = True

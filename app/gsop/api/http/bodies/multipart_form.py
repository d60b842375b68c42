"""Images as fields of a ``multipart/form-data`` body (RFC 7578)."""

import logging
import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

from gsop.api.http.bodies.base64_text import image_of_text
from gsop.api.http.bodies.parts import FIELD, IMAGE_FIELDS, Parts
from gsop.errors import RequestError
from gsop.images import is_image

# Its warnings quote the body, and everybody could fill the log with them.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)

MAX_OTHER_PARTS = 32
"""Multipart fields of other names that are passed over before the request is refused."""


MAX_OPTION_BYTES = 256
"""Of an option's value."""

_BOUNDARY = re.compile(rb"--([0-9A-Za-z'()+_,./:=?-]{1,70})\r?\n(?=[Cc]ontent-)")
"""The first line of a form; clients that set the Content-Type by hand forget to tell."""


def boundary_of(body: bytes) -> bytes:
    """The boundary that a body begins with; nothing if it is no form."""
    found = _BOUNDARY.match(body)
    return found[1] if found else b""


def parse_form(body: bytes, boundary: bytes, max_images: int, options: Collection[str]) -> Parts:
    """The images of a form and its fields that are ``options``; others are passed over.

    Raises:
        RequestError: if it is broken, or holds no image or more than ``max_images``.
    """
    if not boundary:
        raise RequestError("multipart/form-data without a boundary; let your HTTP client set it")
    form = _Form(max_images, options)
    try:
        parser = MultipartParser(boundary, form.callbacks)
        parser.write(body)
    except FormParserError as error:
        raise RequestError(f"the multipart body is broken ({error})") from error
    if not form.is_complete:
        raise RequestError("the multipart body ends before its last boundary")
    if not form.images:
        raise RequestError(f"the multipart body has no field named {FIELD!r}{form.seen}")
    return Parts(form.images, form.options)


class _Form:
    """Collects images and options, and passes over the other parts."""

    def __init__(self, max_images: int, options: Collection[str]) -> None:
        self.images: list[bytes] = []
        self.options: dict[str, str] = {}
        self.is_complete = False
        self._max_images = max_images
        self._names = options
        self._others: list[str] = []
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = b""
        self._data: bytearray | None = None
        self._option: str | None = None
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
        self._disposition, self._data, self._option = b"", None, None

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
        _, parameters = parse_options_header(self._disposition)
        name = parameters.get(b"name", b"").decode("utf-8", "replace")
        if name in IMAGE_FIELDS:
            if len(self.images) == self._max_images:
                raise RequestError(
                    f"more than {self._max_images} images in one request; send several requests"
                )
            self._data = bytearray()
            return
        if name in self._names:
            self._data, self._option = bytearray(), name
            return
        self._others.append(name)
        if len(self._others) > MAX_OTHER_PARTS:
            raise RequestError(f"too many multipart fields beside {FIELD!r}")

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._data is not None:
            self._data += memoryview(data)[start:end]

    def _end(self) -> None:
        if self._data is None:
            return
        data = bytes(self._data)
        if self._option is None:
            # A page may put canvas.toDataURL() into a field.
            self.images.append(data if is_image(data) else image_of_text(data) or data)
        elif len(data) > MAX_OPTION_BYTES:
            raise RequestError(f"the field {self._option!r} is longer than any option")
        else:
            self.options[self._option] = data.decode("utf-8", "replace").strip()

    @property
    def seen(self) -> str:
        """What there is in place of an image, for a message."""
        return f" but {self._others[0][:64]!r}: rename it" if self._others else ""

    def _complete(self) -> None:
        self.is_complete = True

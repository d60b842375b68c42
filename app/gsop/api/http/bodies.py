"""Request bodies to image bytes: raw, multipart and JSON, counted while they stream.

Everything stays in memory: a body is bounded by ``GSOP_MAX_BODY_BYTES``, and all the bodies of a
front together by ``GSOP_BODY_MEMORY_BYTES``, so nothing needs a temporary file (the file system may
be read-only, and writing to one would block the event loop).
"""

import asyncio
import base64
import binascii
import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import orjson
from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

from gsop.errors import BodyTimeout, BodyTooLarge, RequestError, UnsupportedMediaType
from gsop.serving.classify import BodyShare

# Its warnings quote the body, and everybody could fill the log with them.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)

FIELD = "image"
"""The multipart field, and the JSON member, that holds an image."""

MAX_OTHER_PARTS = 32
"""Multipart fields of other names that are passed over before the request is refused."""

MAX_JSON_VALUES = 1000
"""Of a JSON body, of which one counts; ten megabytes of ``[],[],…`` would take seconds to build."""

LARGE_BYTES = 2**20
"""Bodies from this size on are taken apart in a thread: tenths of a second for the worst ones."""

_SPACES = b" \t\r\n\v\f"

ACCEPTED = "image/*, application/octet-stream, multipart/form-data or application/json"


async def read_images(
    request: Request, memory: BodyShare, *, max_bytes: int, max_images: int, seconds: float
) -> list[bytes]:
    """The images in a request's body: one, or several in a multipart body.

    Raises:
        BodyTimeout: if the body has not come whole within ``seconds``.
        Overloaded: if the bodies of other requests leave no memory for it.
        UnsupportedMediaType: if the body is of no kind that is read.
        BodyTooLarge: as soon as more than ``max_bytes`` are announced or have come.
        RequestError: if the body is not what its type says, or has more than ``max_images``.
        ClientDisconnect: if the client leaves before the end of the body.
    """
    kind, parameters = _media_type(request.headers.get("content-type", ""))
    if not (kind in ("multipart/form-data", "application/json") or _is_raw(kind)):
        raise UnsupportedMediaType(f"Content-Type {kind or '(none)'} is not read; send {ACCEPTED}")
    body = await read_body(request, memory, max_bytes=max_bytes, seconds=seconds)
    if not body:
        raise RequestError("the body is empty; send an image")
    if _is_raw(kind):
        return [body]
    if len(body) >= LARGE_BYTES:
        return await run_in_threadpool(_images_of, kind, parameters, body, max_images)
    return _images_of(kind, parameters, body, max_images)


async def read_body(
    request: Request, memory: BodyShare, *, max_bytes: int, seconds: float
) -> bytes:
    """A request's body as it came, whatever it is.

    Raises:
        BodyTimeout: if it has not come whole within ``seconds``.
        Overloaded: if the bodies of other requests leave no memory for it.
        UnsupportedMediaType: if it is compressed.
        BodyTooLarge: as soon as more than ``max_bytes`` are announced or have come.
        ClientDisconnect: if the client leaves before its end.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMediaType("compressed bodies are not read; send the image as it is")
    try:
        async with asyncio.timeout(seconds):
            return await _gather(request, memory, max_bytes)
    except TimeoutError as error:
        raise BodyTimeout(
            f"the body did not come whole within {seconds:g} s; send it faster, or a smaller image"
        ) from error


@lru_cache(maxsize=64)  # clients have few, but for the boundaries of forms
def _media_type(header: str) -> tuple[str, Mapping[bytes, bytes]]:
    """A ``Content-Type``: the media type and its parameters."""
    media_type, parameters = parse_options_header(header)
    return media_type.decode("latin-1"), parameters


def _images_of(
    kind: str, parameters: Mapping[bytes, bytes], body: bytes, max_images: int
) -> list[bytes]:
    if kind == "application/json":
        return [_image_of_json(body)]
    return _images_of_form(body, parameters.get(b"boundary", b""), max_images)


def _is_raw(kind: str) -> bool:
    return kind.startswith("image/") or kind == "application/octet-stream"


async def _gather(request: Request, memory: BodyShare, max_bytes: int) -> bytes:
    too_large = BodyTooLarge(f"the body has more than {max_bytes} bytes; send a smaller image")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise too_large
    parts, count = [], 0
    async for part in request.stream():
        count += len(part)
        if count > max_bytes:
            raise too_large
        memory.add(len(part))
        parts.append(part)
    return b"".join(parts)


def _image_of_json(body: bytes) -> bytes:
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_JSON_VALUES:
        raise RequestError(f'the JSON body holds too much beside "{FIELD}"; send the image alone')
    try:
        members = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not JSON ({error})") from error
    if not isinstance(members, dict) or not isinstance(members.get(FIELD), str):
        raise RequestError(f'the JSON body must be {{"{FIELD}": "…"}} with the image in base64')
    text: str = members[FIELD]
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        image = base64.b64decode(text.encode("ascii").translate(None, _SPACES), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(f"{FIELD} is not base64 ({error}); encode the file's bytes") from error
    if not image:
        raise RequestError(f"{FIELD} is empty; send an image")
    return image


def _images_of_form(body: bytes, boundary: bytes, max_images: int) -> list[bytes]:
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

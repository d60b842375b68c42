"""A body is read, bounded, and taken apart by what it is."""

from collections.abc import Mapping
from functools import lru_cache

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool

from gsop.api.http.bodies.arrival import receive
from gsop.api.http.bodies.json_form import image_of_json
from gsop.api.http.bodies.multipart_form import images_of_form
from gsop.errors import UnsupportedMediaType
from gsop.serving.classify import BodyShare

LARGE_BYTES = 2**20
"""Bodies from this size on are taken apart in a thread: tenths of a second for the worst ones."""

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
    if request.headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMediaType("compressed bodies are not read; send the image as it is")
    body = await receive(request, memory, max_bytes=max_bytes, seconds=seconds)
    if _is_raw(kind):
        return [body]
    if len(body) >= LARGE_BYTES:
        return await run_in_threadpool(_images_of, kind, parameters, body, max_images)
    return _images_of(kind, parameters, body, max_images)


@lru_cache(maxsize=64)  # clients have few, but for the boundaries of forms
def _media_type(header: str) -> tuple[str, Mapping[bytes, bytes]]:
    """A ``Content-Type``: the media type and its parameters."""
    media_type, parameters = parse_options_header(header)
    return media_type.decode("latin-1"), parameters


def _images_of(
    kind: str, parameters: Mapping[bytes, bytes], body: bytes, max_images: int
) -> list[bytes]:
    if kind == "application/json":
        return [image_of_json(body)]
    return images_of_form(body, parameters.get(b"boundary", b""), max_images)


def _is_raw(kind: str) -> bool:
    return kind.startswith("image/") or kind == "application/octet-stream"

"""A body is read, bounded, and taken apart by what it is.

The bytes decide: clients label images as forms, as text or not at all. The Content-Type is asked
only where they do not tell, and for the boundary of a form.
"""

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import NamedTuple

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool

from gsop.api.http.bodies.base64_text import image_of_text
from gsop.api.http.bodies.json_form import parse_json
from gsop.api.http.bodies.multipart_form import boundary_of, parse_form
from gsop.api.http.bodies.parts import Parts
from gsop.api.http.bodies.urlencoded_form import parse_urlencoded
from gsop.api.http.body_limits import BodyLimits, gather
from gsop.errors import RequestError, UnsupportedMediaType
from gsop.images import is_image
from gsop.serving.body_memory import BodyShare

LARGE_BYTES = 2**20
"""Bodies from this size on are taken apart in a thread: tenths of a second for the worst ones."""

URLENCODED = "application/x-www-form-urlencoded"

UNTOLD = frozenset({"", "application/octet-stream", URLENCODED})
"""Content-Types that say nothing: the last is what curl sends if it is not told otherwise."""

_FIRST_FIELD = re.compile(rb"[\w.%\[\]-]{1,64}=")

ACCEPTED = "the image's bytes, a form with the field image, or JSON with its base64 as image"


class Wanted(NamedTuple):
    """What a body may hold.

    Attributes:
        max_images: in it.
        options: names of the options that it may hold beside images.
    """

    max_images: int
    options: Collection[str]


async def read_images(
    request: Request,
    memory: BodyShare,
    limits: BodyLimits,
    *,
    max_images: int,
    options: Collection[str] = (),
) -> Parts:
    """The images in a request's body, one at least, and the options beside them.

    Args:
        request: whose body has not been read yet.
        memory: that it counts to.
        limits: of its size and time.
        max_images: in it.
        options: names of the options that it may hold beside images.

    Raises:
        UnsupportedMediaType: if the body is compressed, or of no kind that is read.
        GSoPError: of :func:`~gsop.api.http.body_limits.gather`.
        RequestError: if the body is not what its type says, has no image or too many.
        InvalidParameter: if it holds what is neither an image nor an option.
        ClientDisconnect: if the client leaves before the end of the body.
    """
    refuse_compressed(request)
    kind, parameters = _media_type(request.headers.get("content-type", ""))
    body = await gather(request, memory, limits)
    if not body:
        raise RequestError("the body is empty; send an image")
    if is_image(body):
        return Parts([body])
    wanted = Wanted(max_images, options)
    if len(body) >= LARGE_BYTES:
        return await run_in_threadpool(_parts_of, kind, parameters, body, wanted)
    return _parts_of(kind, parameters, body, wanted)


def refuse_compressed(request: Request) -> None:
    """Say so before anything is read.

    Raises:
        UnsupportedMediaType: if the body is compressed.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMediaType("compressed bodies are not read; send the image as it is")


@lru_cache(maxsize=64)  # clients have few, but for the boundaries of forms
def _media_type(header: str) -> tuple[str, Mapping[bytes, bytes]]:
    """A ``Content-Type``: the media type and its parameters."""
    media_type, parameters = parse_options_header(header)
    return media_type.decode("latin-1"), parameters


def _parts_of(kind: str, parameters: Mapping[bytes, bytes], body: bytes, wanted: Wanted) -> Parts:
    parts = _taken_apart(kind, parameters, body, wanted)
    if len(parts.images) > wanted.max_images:
        raise RequestError(
            f"more than {wanted.max_images} images in one request; send several requests"
        )
    return parts


def _taken_apart(
    kind: str, parameters: Mapping[bytes, bytes], body: bytes, wanted: Wanted
) -> Parts:
    boundary = parameters.get(b"boundary") or boundary_of(body)
    if kind == "multipart/form-data" or (boundary and body.startswith(b"--" + boundary)):
        return parse_form(body, boundary, wanted.max_images, wanted.options)
    if kind.endswith(("/json", "+json")) or body[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{":
        return parse_json(body, wanted.options)
    if (image := image_of_text(body)) is not None:
        return Parts([image])
    if kind == URLENCODED and _FIRST_FIELD.match(body):
        return parse_urlencoded(body, wanted.options)
    if kind in UNTOLD or kind.startswith("image/"):
        return Parts([body])  # whose decoder says what is wrong with it
    raise UnsupportedMediaType(f"a body of {kind} without an image in it; send {ACCEPTED}")

"""What is fuzzed: each target takes any bytes, and only an error of our own may come out.

The seeds are made, not kept; what fuzzing found beyond them lies in ``tests/fuzz/corpus/TARGET``.
"""

import asyncio
import base64
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from starlette.requests import Request

from gsop.api.http.bodies import Parts, read_images
from gsop.api.http.body_limits import BodyLimits
from gsop.api.http.negotiation import choose
from gsop.errors import ImageTooLarge, InvalidImage, NotAcceptable, RequestError
from gsop.images import decode
from gsop.serving.body_memory import BodyMemory
from tests.chaos.shots import FORM, form, good_images
from tests.imagery import bombs, encode, exif, heic, input_spec, not_images, picture, ycck_jpeg

CORPUS = Path(__file__).parent / "corpus"
SPEC = input_spec(24, 16, 32)
MAX_PIXELS = 100_000
"""Few, so that little time goes into pixels."""


def images(data: bytes) -> None:
    """``gsop.images``: a file of any format."""
    with contextlib.suppress(InvalidImage, ImageTooLarge):
        assert decode(data, SPEC, max_pixels=MAX_PIXELS).shape == (24, 16, 3)


def bodies(data: bytes) -> None:
    """``gsop.api.http.bodies``: the Content-Type, a line feed, and the body, in pieces."""
    kind, _, body = data.partition(b"\n")
    pieces = [body[at : at + 1000] for at in range(0, len(body), 1000)] or [b""]
    messages = iter(
        {"type": "http.request", "body": piece, "more_body": number + 1 < len(pieces)}
        for number, piece in enumerate(pieces)
    )

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def read() -> Parts:
        request = Request({"type": "http", "headers": [(b"content-type", kind)]}, receive)
        memory = BodyMemory(100_000, 100_000)
        limits = BodyLimits(50_000, 60, 0)
        with memory.share("") as share:
            return await read_images(request, share, limits, max_images=4, options=("top_k",))

    with contextlib.suppress(RequestError):
        assert 1 <= len(asyncio.run(read()).images) <= 4


def accept(data: bytes) -> None:
    """``gsop.api.http.negotiation``: an Accept header."""
    offers = ("application/json", "image/png")
    with contextlib.suppress(NotAcceptable):
        assert choose(data.decode("latin-1"), offers) in offers


TARGETS: dict[str, Callable[[bytes], None]] = {"images": images, "bodies": bodies, "accept": accept}


def seeds(target: str, *, corpus: bool = True) -> Iterator[bytes]:
    """What fuzzing begins with: made here, and, with ``corpus``, kept from earlier runs."""
    match target:
        case "images":
            yield from good_images()
            yield from bombs(1000).values()
            yield from not_images().values()
            yield encode(picture(8, 8), "JPEG", exif=exif(6))
            yield encode(picture(8, 8), "PNG", "RGBA")
            yield encode(picture(8, 8), "PNG", "P")
            yield encode(picture(8, 8), "WEBP", quality=50)
            yield ycck_jpeg(picture(8, 8))
            yield encode(picture(8, 8), "AVIF", quality=50)
            yield heic("grey")
            yield heic("clear")
        case "bodies":
            image = good_images()[0]
            yield b"image/png\n" + image
            yield f"{FORM}\n".encode() + form([("image", image), ("note", b"x")])
            text = json.dumps({"image": base64.b64encode(image).decode()})
            yield f"application/json\n{text}".encode()
            yield b"application/x-www-form-urlencoded\ntop_k=3&image=" + base64.b64encode(image)
            yield b"\n" + base64.urlsafe_b64encode(image)
            yield b'\n{"images": ["iVBORw0KGgo", "iVBORw0KGgo="], "top_k": 1}'
            yield b'application/json; charset="utf-8"\n{"image": "data:image/png;base64,aaaa"}'
        case "accept":
            yield b"image/png, application/json;q=0.5, */*;q=0.1"
            yield b'text/html;level=1;q="x", image/*'
    if corpus:
        for file in sorted((CORPUS / target).glob("*")):
            yield file.read_bytes()

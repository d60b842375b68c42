"""Images as base64 in a form of the oldest kind, ``image=…&top_k=3``."""

from collections.abc import Collection
from urllib.parse import unquote_to_bytes

from gsop.api.http.bodies.base64_text import image_of_member
from gsop.api.http.bodies.parts import FIELD, IMAGE_FIELDS, Parts, check_names
from gsop.errors import RequestError

MAX_FIELDS = 1000

MAX_ESCAPES = 1000
"""Of a field, beside those of base64: each costs hundreds of bytes to take apart."""

_OF_BASE64 = ((b"2b", b"+"), (b"2f", b"/"), (b"3d", b"="), (b"0d", b"\r"), (b"0a", b"\n"))


def parse_urlencoded(body: bytes, options: Collection[str]) -> Parts:
    """The images and options of a form; a ``+`` that was not encoded is what it was.

    Raises:
        RequestError: if it holds no image, or more fields or escapes than a form does.
    """
    if body.count(b"&") >= MAX_FIELDS:
        raise RequestError("the form has too many fields; send the file with --data-binary")
    given, images = {}, []
    for pair in filter(None, body.split(b"&")):
        encoded, _, value = pair.partition(b"=")
        name, text = _unquote(encoded), _unquote(value)
        if name in IMAGE_FIELDS:
            images.append(image_of_member(text, name))
        else:
            given[name] = text
    check_names(given, options)
    if not images:
        raise RequestError(f"the form has no field named {FIELD!r}; send the image's base64 there")
    return Parts(images, given)


def _unquote(text: bytes) -> str:
    """What stands for a text, with its escapes."""
    for code, letter in _OF_BASE64:
        for spelling in {code, code.upper()}:
            text = text.replace(b"%" + spelling, letter)
    if text.count(b"%") > MAX_ESCAPES:
        raise RequestError("the form is no base64; send the file with --data-binary")
    return unquote_to_bytes(text).decode("utf-8", "replace")

"""An image as base64 in a JSON body."""

import base64
import binascii

import orjson

from gsop.api.http.bodies.field import FIELD
from gsop.errors import RequestError

MAX_JSON_VALUES = 1000
"""Of a JSON body, of which one counts; ten megabytes of ``[],[],…`` would take seconds to build."""

_SPACES = b" \t\r\n\v\f"


def image_of_json(body: bytes) -> bytes:
    """The image; raises :class:`RequestError` if the body holds none."""
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

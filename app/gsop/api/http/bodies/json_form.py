"""Images as base64 in a JSON body, and options beside them."""

from collections.abc import Collection
from typing import Any

import orjson

from gsop.api.http.bodies.base64_text import image_of_member, image_of_text
from gsop.api.http.bodies.parts import FIELD, Parts, check_names
from gsop.errors import RequestError

MAX_JSON_VALUES = 1000
"""Of a JSON body, of which few count; ten megabytes of ``[],[],…`` would take seconds to build."""

_FORM = f'{{"{FIELD}": "…"}} with the image in base64, or {{"images": ["…", "…"]}}'

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def parse_json(body: bytes, options: Collection[str]) -> Parts:
    """``{"image": "…", "top_k": 3}``, or ``{"images": ["…", "…"]}``; ``null`` is as if absent.

    Raises:
        RequestError: if it is no JSON, or holds no image.
        InvalidParameter: if it has a member that is neither an image nor one of ``options``.
    """
    body = body.removeprefix(_BYTE_ORDER_MARK)
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_JSON_VALUES:
        raise RequestError(f'the JSON body holds too much beside "{FIELD}"; send the image alone')
    try:
        members = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not JSON in UTF-8 ({error})") from error
    if isinstance(members, str) and (image := image_of_text(body)) is not None:
        return Parts([image])
    if not isinstance(members, dict):
        raise RequestError(f"the JSON body must be {_FORM}")
    given = {name: value for name, value in members.items() if value is not None}
    images = _images_of(given.pop(FIELD, None), given.pop("images", None))
    check_names(given, options)
    if not images:
        raise RequestError(f"the JSON body must be {_FORM}")
    return Parts(images, given)


def _images_of(one: Any, several: Any) -> list[bytes]:
    if several is None:
        return [] if one is None else [_image_of(one, FIELD)]
    if one is not None:
        raise RequestError(f"{FIELD} and images are both there; put all into images")
    if not isinstance(several, list):
        raise RequestError("images must be a list of texts in base64; a single one is image")
    return [_image_of(value, f"images[{place}]") for place, value in enumerate(several)]


def _image_of(value: Any, name: str) -> bytes:
    if not isinstance(value, str):
        raise RequestError(f"{name} must be a text: the file's bytes in base64")
    return image_of_member(value, name)

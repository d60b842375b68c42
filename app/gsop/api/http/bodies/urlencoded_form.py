"""Images as base64 in a form of the oldest kind, ``image=…&top_k=3``."""

from collections.abc import Collection
from urllib.parse import parse_qsl

from gsop.api.http.bodies.base64_text import image_of_member
from gsop.api.http.bodies.parts import FIELD, IMAGE_FIELDS, Parts, check_names
from gsop.errors import RequestError

MAX_FIELDS = 1000


def parse_urlencoded(body: bytes, options: Collection[str]) -> Parts:
    """The images and options of a form; a ``+`` that was not encoded is what it was.

    Raises:
        RequestError: if it holds no image.
        InvalidParameter: if it has a field that is neither an image nor one of ``options``.
    """
    try:
        pairs = parse_qsl(
            body.replace(b"+", b"%2B").decode("ascii"),
            keep_blank_values=True,
            max_num_fields=MAX_FIELDS,
        )
    except ValueError as error:
        raise RequestError("the form cannot be read; send the file with --data-binary") from error
    given = {name: value for name, value in pairs if name not in IMAGE_FIELDS}
    images = [image_of_member(value, name) for name, value in pairs if name in IMAGE_FIELDS]
    check_names(given, options)
    if not images:
        raise RequestError(f"the form has no field named {FIELD!r}; send the image's base64 there")
    return Parts(images, given)

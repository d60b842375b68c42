"""Images as base64, as the many encoders of it write them (RFC 4648, sections 4 and 5)."""

import base64
import binascii

from gsop.errors import RequestError
from gsop.images import is_image

_SPACES = b" \t\r\n\v\f"

_STANDARD = bytes.maketrans(b"-_", b"+/")
"""From the URL-safe alphabet."""

_HEAD = 64
"""So many characters tell whether a text is an image's."""


def decode_base64(text: bytes) -> bytes:
    """The bytes; the alphabet may be either one, the padding may be absent.

    Args:
        text: base64, perhaps with white space in it, perhaps the content of a ``data:`` URL.

    Raises:
        binascii.Error: if it is none.
    """
    if text[:5].lower() == b"data:":
        text = text[text.find(b",") + 1 :]
    text = text.translate(_STANDARD, _SPACES).rstrip(b"=")
    return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)


def image_of_member(text: str, name: str) -> bytes:
    """The file that a member holds as base64.

    Raises:
        RequestError: if it is empty or no base64.
    """
    try:
        image = decode_base64(text.encode("ascii"))
    except (binascii.Error, ValueError) as error:
        raise RequestError(f"{name} is not base64 ({error}); encode the file's bytes") from error
    if not image:
        raise RequestError(f"{name} is empty; send an image")
    return image


def image_of_text(data: bytes) -> bytes | None:
    """The image in a body or field that is nothing but base64; ``None`` if it is none."""
    text = data.strip(_SPACES + b'"')  # a JSON text of one string is base64 in quotes
    start = text[:256].find(b",") + 1 if text[:5].lower() == b"data:" else 0
    head = text[start : start + _HEAD].translate(None, _SPACES)
    try:
        if not is_image(decode_base64(head[: len(head) // 4 * 4])):
            return None
        return decode_base64(text)
    except binascii.Error:
        return None

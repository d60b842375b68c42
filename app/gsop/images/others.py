"""Files that are sent for images and are none that is read, each by its own name and remedy."""

import re

_SAVE = "send it saved as JPEG or PNG."

_OTHERS: tuple[tuple[bytes, str], ...] = (
    (
        rb"\x89PNG\x1a",
        "The PNG has lost its line ends, as curl -d does: send it with --data-binary.",
    ),
    (
        rb"\x89PNG\n\x1a|\xef\xbb\xbf|\xef\xbf\xbd",
        ("The bytes were changed as if they were text: send the file as binary."),
    ),
    (rb"%PDF", f"A PDF is no image: {_SAVE}"),
    (
        rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg",
        (f"An SVG is a drawing and has no pixels: {_SAVE}"),
    ),
    (
        rb"\s*<(!doctype )?html|\s*<\?xml",
        "The bytes are a page of text; send the image itself.",
    ),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", f"JPEG 2000 is not read: {_SAVE}"),
    (rb"\0\0\0\x0cJXL |\xff\x0a", f"JPEG XL is not read: {_SAVE}"),
    (rb"\0\0[\x01\x02]\0", f"Icons and cursors are not read: {_SAVE}"),
    (rb"8BPS", f"Photoshop documents are not read: {_SAVE}"),
    (rb"II\x1a\0|FUJIFILM|IIU\0|IIRO", f"A camera's raw file is not read: {_SAVE}"),
    (rb"....ftypcrx ", f"A camera's raw file is not read: {_SAVE}"),
    (rb"....(ftyp|moov)|\x1aE\xdf\xa3|RIFF....AVI ", f"A video is no image: {_SAVE}"),
    (
        rb"\x1f\x8b|PK\x03\x04|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf",
        ("The bytes are an archive; send the image that is in it."),
    ),
    (
        rb"version https://git-lfs",
        "The bytes are a pointer of Git LFS: send the image after git lfs pull.",
    ),
    (rb"P[1-7]\s", f"Netpbm images are not read: {_SAVE}"),
    (rb"DDS |v/1\x01|#\?RADIANCE|qoif|DICM|SIMPLE  =", f"The format is not read: {_SAVE}"),
)

_UNREAD = tuple((re.compile(magic, re.DOTALL | re.IGNORECASE), text) for magic, text in _OTHERS)

_HEAD = 1024
"""Bytes that are looked at; an SVG may begin with comments."""


def unread(data: bytes) -> str | None:
    """What to say of a file that begins like a known kind that is not read."""
    head = data[:_HEAD]
    return next((text for magic, text in _UNREAD if magic.match(head)), None)

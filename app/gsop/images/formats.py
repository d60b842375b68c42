"""Which format a file is of."""

from gsop.errors import InvalidImage

_MAGIC_NUMBERS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"BM": "BMP",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}


def format_of(data: bytes) -> str:
    """Pillow's name of the format that ``data`` begins as."""
    if not data:
        raise InvalidImage("There are no bytes; send a whole image file.")
    for magic, name in _MAGIC_NUMBERS.items():
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    raise InvalidImage(
        "The bytes are no JPEG, PNG, WebP, BMP, TIFF or GIF; send an image in one of these formats."
    )

"""PNGs of which something that does not matter is damaged."""

import zlib
from collections.abc import Iterator

from gsop.images.base import Declined, Opened
from gsop.images.pillow import by_pillow

_SIGNATURE = 8
_MOST_CHUNKS = 10_000
_ANCILLARY = 0x20
"""The bit of a chunk's first letter that says that a picture can be shown without it."""

_by_pillow = by_pillow("PNG")


def by_pillow_mended(data: bytes) -> Opened:
    """Reads a PNG without its ancillary chunks of a wrong checksum, as libpng and browsers do.

    Pillow refuses them, so this is asked after it.
    """
    mended = data[:_SIGNATURE] + b"".join(_sound_chunks(data))
    if len(mended) == len(data):
        raise Declined
    return _by_pillow(mended)


def _sound_chunks(data: bytes) -> Iterator[bytes]:
    at = _SIGNATURE
    for _ in range(_MOST_CHUNKS):
        end = at + 12 + int.from_bytes(data[at : at + 4])
        if len(data) < end or at == len(data):
            yield data[at:]  # cut off: the decoder's to judge
            return
        body, told = data[at + 4 : end - 4], data[end - 4 : end]
        if not body[0] & _ANCILLARY or zlib.crc32(body) == int.from_bytes(told):
            yield data[at:end]
        at = end
    raise Declined

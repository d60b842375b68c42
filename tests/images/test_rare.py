"""Rare files that are read, and must stay so: what old, odd and thorough programs write."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from gsop.errors import InvalidImage
from gsop.images import Pixels
from tests.imagery import chunk, encode, exif, stored
from tests.images.support import GREY, RGB, SIDE, Numbers, as_it_is, grey

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

OTHER = RGB[::-1]


def adam7(pixels: Pixels) -> bytes:
    """An interlaced PNG."""
    passes = (
        *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
        *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
    )
    rows = [
        b"\0" + row.tobytes()
        for top, left, down, right in passes
        for row in pixels[top::down, left::right]
    ]
    header = struct.pack(">IIBBBBB", *pixels.shape[1::-1], 8, 2, 0, 0, 1)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(rows)))
    return b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b"")


def tiff(pixels: Pixels, *, tile: int = 0, planes: bool = False) -> bytes:
    """An RGB TIFF in tiles or as one strip, with its channels apart or together."""
    height, width = pixels.shape[:2]
    layers = [pixels[..., c] for c in range(3)] if planes else [pixels]
    side = tile or max(height, width)
    parts = [
        layer[top : top + side, left : left + side].tobytes()
        for layer in layers
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]
    body, at = b"", 8
    offsets = []
    for part in parts:
        offsets.append(at + len(body))
        body += part
    lists = at + len(body)
    count = len(parts)
    body += struct.pack(f"<{count}I", *offsets) + struct.pack(f"<{count}I", *map(len, parts))
    bits = at + len(body)
    body += struct.pack("<3H", 8, 8, 8)
    places = (
        [(324, lists), (325, lists + 4 * count)]
        if tile
        else [(273, lists), (279, lists + 4 * count)]
    )
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, bits), (259, 3, 1, 1)]
    entries += [(262, 3, 1, 2), (277, 3, 1, 3), (284, 3, 1, 2 if planes else 1)]
    entries += [(322, 4, 1, tile), (323, 4, 1, tile)] if tile else [(278, 4, 1, height)]
    for tag, where in places:
        value = where if count > 1 else struct.unpack_from("<I", body, where - at)[0]
        entries.append((tag, 4, count, value))
    directory = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    head = b"II*\0" + struct.pack("<I", at + len(body))
    return head + body + struct.pack("<H", len(entries)) + directory + bytes(4)


def bmp(
    rows: Numbers, bits: int, *, masks: bytes = b"", down: bool = False, old: bool = False
) -> bytes:
    """A BMP of rows that are padded already; bottom-up, or ``down``; ``old``: as OS/2 wrote it."""
    data = np.ascontiguousarray(rows if down else rows[::-1]).tobytes()
    height, width = rows.shape[:2]
    if old:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        size = (width, -height if down else height)
        coded = 3 if masks else 0
        info = struct.pack("<IiiHHIIiiII", 40, *size, 1, bits, coded, len(data), 0, 0, 0, 0) + masks
    start = 14 + len(info)
    return struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start) + info + data


BGR = RGB[..., ::-1]
BGRX = np.dstack([BGR, np.zeros((SIDE, SIDE), np.uint8)])
RED, GREEN, BLUE = (RGB[..., channel].astype(np.uint16) for channel in range(3))
PACKED = (RED >> 3 << 11) | (GREEN >> 2 << 5) | BLUE >> 3
MASKS = struct.pack("<3I", 0xF800, 0x07E0, 0x001F)

JPEG = encode(RGB, "JPEG", quality=95)
TURNED = encode(stored(RGB, 6), "JPEG", quality=95, exif=exif(6))
PACKET = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:tiff="t" tiff:Orientation="3"/>'
XMP = b"\xff\xe1" + (len(PACKET) + 2).to_bytes(2) + PACKET
EXIF_ENDS = 4 + int.from_bytes(TURNED[4:6])


def sampled(way: str) -> bytes:
    made: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(RGB), quality=95, colorsubsampling=way
    )
    return made


def several(name: str, **options: object) -> bytes:
    """A file of two pictures, the first of which counts."""
    stream = BytesIO()
    second = Image.fromarray(OTHER)
    first = Image.fromarray(RGB)
    first.save(stream, name, save_all=True, append_images=[second], **options)
    return stream.getvalue()


RARE: dict[str, tuple[bytes, Numbers, int]] = {
    "JPEG in RGB": (encode(RGB, "JPEG", quality=95, keep_rgb=True), RGB, 6),
    "JPEG, arithmetic": (
        Path(__file__).with_name("files").joinpath("arithmetic.jpg").read_bytes(),
        RGB,
        6,
    ),
    "JPEG 4:1:1": (sampled("411"), RGB, 12),
    "JPEG 4:4:0": (sampled("440"), RGB, 12),
    "JPEG with restart markers": (encode(RGB, "JPEG", quality=95, restart_marker_blocks=1), RGB, 6),
    "MPO": (several("MPO", quality=95), RGB, 6),
    "JPEG with bytes behind it": (JPEG + bytes(1000), RGB, 6),
    "JPEG with a JPEG behind it": (JPEG + encode(OTHER, "JPEG"), RGB, 6),
    "JPEG with 300 kB of profile": (
        encode(RGB, "JPEG", quality=95, icc_profile=bytes(300_000)),
        RGB,
        6,
    ),
    "JPEG with XMP before EXIF": (TURNED[:2] + XMP + TURNED[2:], RGB, 6),
    "JPEG with XMP behind EXIF": (TURNED[:EXIF_ENDS] + XMP + TURNED[EXIF_ENDS:], RGB, 6),
    "PNG, interlaced": (adam7(RGB), RGB, 0),
    "TIFF in tiles": (tiff(RGB, tile=16), RGB, 0),
    "TIFF in planes": (tiff(RGB, planes=True), RGB, 0),
    "TIFF in planes of tiles": (tiff(RGB, tile=16, planes=True), RGB, 0),
    "TIFF, Zstandard": (encode(RGB, "TIFF", compression="zstd"), RGB, 0),
    "TIFF, LZMA": (encode(RGB, "TIFF", compression="lzma"), RGB, 0),
    "TIFF, fax": (
        encode(GREY > 128, "TIFF", compression="group4"),
        grey(np.where(GREY > 128, 255, 0)),
        0,
    ),
    "TIFF of two pages": (several("TIFF"), RGB, 0),
    "BMP, top-down": (bmp(BGR, 24, down=True), RGB, 0),
    "BMP of OS/2": (bmp(BGR, 24, old=True), RGB, 0),
    "BMP of 32 bits": (bmp(BGRX, 32), RGB, 0),
    "BMP of 16 bits": (bmp(PACKED.astype("<u2"), 16, masks=MASKS), RGB, 8),
}


@pytest.mark.parametrize("name", RARE)
def test_what_is_rare_is_read(name: str) -> None:
    data, expected, tolerance = RARE[name]
    assert np.abs(as_it_is(data) - expected).max() <= tolerance


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_jpeg_without_its_end_is_refused(cut: int) -> None:
    """It may be whole but for that; whether more is missing, nobody can see for certain."""
    with pytest.raises(InvalidImage, match="send the whole file"):
        as_it_is(JPEG[:-cut])

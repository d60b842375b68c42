"""Odd and hostile images, made from scratch: for the decoder's tests and for those over HTTP."""

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageChops

from gsop.images import InputSpec, Interpolation, Pixels

ORIENTATION_TAG = 0x0112


def input_spec(
    height: int, width: int, resize: int, interpolation: Interpolation = "bilinear"
) -> InputSpec:
    """A spec whose mean and std, which decoding does not need, are 0 and 1."""
    return InputSpec(
        height=height,
        width=width,
        resize=resize,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        interpolation=interpolation,
    )


def picture(height: int, width: int) -> Pixels:
    """A smooth picture, all of whose corners differ: lossy formats hardly change it."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    planes = (40 + 180 * x, 200 - 150 * y, 60 + 90 * (x + y))
    return np.stack(planes, axis=-1).round().astype(np.uint8)


def encode(pixels: npt.NDArray[np.generic], name: str, mode: str = "", **options: object) -> bytes:
    """``pixels`` as a file of Pillow's format ``name``, first converted to ``mode`` if given."""
    image = Image.fromarray(pixels)
    stream = BytesIO()
    (image.convert(mode) if mode else image).save(stream, name, **options)
    return stream.getvalue()


def animation(frames: list[Pixels], name: str, **options: object) -> bytes:
    """An animated GIF, PNG or WebP."""
    first, *rest = map(Image.fromarray, frames)
    stream = BytesIO()
    first.save(stream, name, save_all=True, append_images=rest, **options)
    return stream.getvalue()


# --- orientation --------------------------------------------------------------------------------

_FIRST_ROW_AND_COLUMN = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}
"""Where the stored first row and first column are seen (the table of EXIF tag 274)."""


def exif(orientation: int) -> bytes:
    """An EXIF block, with its ``Exif`` prefix, that holds an orientation."""
    tags = Image.Exif()
    tags[ORIENTATION_TAG] = orientation
    return tags.tobytes()


def stored(upright: Pixels, orientation: int) -> Pixels:
    """How a camera stores a scene under an EXIF orientation."""
    row, column = _FIRST_ROW_AND_COLUMN[orientation]
    if "bottom" in (row, column):
        upright = upright[::-1]
    if "right" in (row, column):
        upright = upright[:, ::-1]
    return np.ascontiguousarray(upright.swapaxes(0, 1) if row in ("left", "right") else upright)


# --- what Pillow does not save just so -----------------------------------------------------------


def cmyk_tiff(pixels: Pixels) -> bytes:
    """A CMYK TIFF that shows ``pixels``."""
    stream = BytesIO()
    _inks(pixels).save(stream, "TIFF")
    return stream.getvalue()


def cmyk_jpeg(pixels: Pixels, *, adobe: bool) -> bytes:
    """A CMYK JPEG that shows ``pixels``: with Adobe's marker and inverted inks, or without both."""
    inks, stream = _inks(pixels), BytesIO()
    (inks if adobe else ImageChops.invert(inks)).save(stream, "JPEG", quality=95, subsampling=0)
    data = stream.getvalue()
    if adobe:
        return data
    marker = data.index(b"\xff\xee")
    return data[:marker] + data[marker + 2 + int.from_bytes(data[marker + 2 : marker + 4]) :]


def _inks(pixels: Pixels) -> Image.Image:
    inks = np.dstack([255 - pixels, np.zeros(pixels.shape[:2], np.uint8)])
    return Image.frombytes("CMYK", pixels.shape[1::-1], inks.tobytes())


def ycck_jpeg(pixels: Pixels) -> bytes:
    """A YCCK JPEG, inverted as Adobe's are."""
    inverted = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    data: bytes = simplejpeg.encode_jpeg(
        inverted, quality=95, colorspace="CMYK", colorsubsampling="444"
    )
    return data


def big_endian_tiff(samples: npt.NDArray[np.uint16]) -> bytes:
    """A grey TIFF of 16 bits a sample, the high byte first."""
    stream = BytesIO()
    image = Image.frombytes("I;16B", samples.shape[::-1], samples.astype(">u2").tobytes())
    image.save(stream, "TIFF")
    return stream.getvalue()


# --- files built by hand ------------------------------------------------------------------------


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    samples: npt.NDArray[np.generic], colour_type: int, *, before: bytes = b"", after: bytes = b""
) -> bytes:
    """A PNG of 8 or 16 bits a sample, with chunks ``before`` and ``after`` its data."""
    height, width = samples.shape[:2]
    rows = samples.astype(samples.dtype.newbyteorder(">")).reshape(height, -1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", width, height, 8 * samples.itemsize, colour_type, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + before + chunk(b"IDAT", data) + after + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def opencv(samples: npt.NDArray[np.unsignedinteger], extension: str) -> bytes:
    """RGB or grey samples, encoded by OpenCV: an encoder that the service does not use."""
    done, data = cv2.imencode(extension, samples[..., ::-1] if samples.ndim == 3 else samples)
    assert done
    return data.tobytes()


def tiff(height: int, width: int, *, strips: int = 1, repeats: int = 1) -> bytes:
    """A grey TIFF whose list of strips names all of them ``repeats`` times."""
    count = strips * repeats
    offsets, sizes = (
        struct.pack(f"<{count}I", *[8] * count),
        struct.pack(f"<{count}I", *[height // strips * width] * count),
    )
    lists = 8 + height * width
    directory = lists + len(offsets) + len(sizes)
    entries = [
        (256, width, 1),
        (257, height, 1),
        (258, 8, 1),
        (259, 1, 1),
        (262, 1, 1),
        (273, lists if count > 1 else 8, count),
        (277, 1, 1),
        (278, height // strips, 1),
        (279, lists + len(offsets) if count > 1 else height * width, count),
    ]
    tags = b"".join(struct.pack("<HHII", tag, 4, n, value) for tag, value, n in entries)
    head = b"II*\0" + struct.pack("<I", directory) + bytes(height * width)
    return head + offsets + sizes + struct.pack("<H", len(entries)) + tags + bytes(4)


def bmp_rle(width: int, height: int) -> bytes:
    """A run-length coded BMP of some 1100 bytes: one black pixel, then "end of line"."""
    head = struct.pack("<2sIHHI", b"BM", 0, 0, 0, 1078)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 0, 0, 0, 256, 0)
    return head + info + bytes(1024) + b"\1\0\0\0\0\1"


def many_scans(pixels: Pixels, repeats: int) -> bytes:
    """A progressive JPEG whose last scan comes ``repeats`` times more."""
    data = encode(pixels, "JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * repeats + b"\xff\xd9"


def disguised(jpeg: bytes) -> bytes:
    """A JPEG that libjpeg reads as before, and a careless reader of segments as sequential.

    A restart marker has no length, but two bytes follow that look like one: to the careless they
    lead past the true header, to a false one inside of a segment.
    """
    false = b"\xff\xc0\0\x0b\x08\0\1\0\1\1\1\x11\0" + b"\xff\xda\0\x08\1\1\0\0\x3f\0"
    false_header_at = 4 + 0xFFE2
    comment = bytes(false_header_at - 8) + false
    head = b"\xff\xd8\xff\xd0\xff\xe2" + (len(comment) + 2).to_bytes(2) + comment
    return head + jpeg[2:]


def bombs(side: int = 40_000) -> dict[str, bytes]:
    """Files of every format, a few bytes long, whose headers announce ``side`` × ``side``."""
    tiny = np.zeros((8, 8, 3), np.uint8)
    jpeg, bmp, gif = (bytearray(encode(tiny, name)) for name in ("JPEG", "BMP", "GIF"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    bmp[18:26] = struct.pack("<ii", side, side)
    gif[6:10] = struct.pack("<HH", side, side)
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    webp = bytearray(animation([tiny, 255 - tiny], "WEBP"))
    webp[24:30] = 2 * (side - 1).to_bytes(3, "little")
    return {
        "JPEG": bytes(jpeg),
        "PNG": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"\0"),
        "WebP": bytes(webp),
        "BMP": bytes(bmp),
        "TIFF": tiff(1, 1).replace(
            struct.pack("<HHII", 256, 4, 1, 1) + struct.pack("<HHII", 257, 4, 1, 1),
            struct.pack("<HHII", 256, 4, 1, side) + struct.pack("<HHII", 257, 4, 1, side),
        ),
        "GIF": bytes(gif),
        "AVIF": _of_size(encode(tiny, "AVIF"), side),
        "HEIC": _of_size(heic("square"), side),
    }


def _of_size(data: bytes, side: int) -> bytes:
    """An image in ISO's container that announces ``side`` × ``side``."""
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", side, side) + data[at + 8 :]


HEIC_FILES = Path(__file__).parent / "images" / "files"
"""Kept, because what reads HEIC here does not write it: ``make.py`` says how they were made."""


def heic(name: str) -> bytes:
    """A HEIC file."""
    return (HEIC_FILES / f"{name}.heic").read_bytes()


def heic_grid(rows: int, columns: int) -> bytes:
    """A HEIC as phones write it: a grid of tiles, each ``square.heic`` uncropped, 64 × 64.

    Item ``rows * columns + 1`` is the grid; those before it are tiles, whose bytes are the same.
    """
    tile = heic("square")
    hvcc = _box_of(tile, b"hvcC")
    data = _box_of(tile, b"mdat")[8:]
    tiles = rows * columns
    size = struct.pack(">HH", columns * 64, rows * 64)
    grid = struct.pack(">BBBB", 0, 0, rows - 1, columns - 1) + size

    def full(kind: bytes, body: bytes, version: int = 0) -> bytes:
        return _box(kind, struct.pack(">I", version << 24) + body)

    def area(width: int, height: int) -> bytes:
        return full(b"ispe", struct.pack(">II", width, height))

    def infe(item: int, kind: bytes) -> bytes:
        return full(b"infe", struct.pack(">HH4sB", item, 0, kind, 0), 2)

    def meta(at: int) -> bytes:
        places = [(item, at, len(data)) for item in range(1, tiles + 1)]
        places.append((tiles + 1, at + len(data), len(grid)))
        located = b"".join(struct.pack(">HHHII", item, 0, 1, *place) for item, *place in places)
        infos = [infe(item, b"hvc1") for item in range(1, tiles + 1)] + [infe(tiles + 1, b"grid")]
        kept = _box(b"ipco", hvcc + area(64, 64) + area(columns * 64, rows * 64))
        owned = b"".join(struct.pack(">HBBB", i, 2, 0x81, 2) for i in range(1, tiles + 1))
        owned += struct.pack(">HBB", tiles + 1, 1, 3)
        parts = struct.pack(f">HH{tiles}H", tiles + 1, tiles, *range(1, tiles + 1))
        return full(
            b"meta",
            full(b"hdlr", bytes(4) + b"pict" + bytes(13))
            + full(b"pitm", struct.pack(">H", tiles + 1))
            + full(b"iloc", struct.pack(">BBH", 0x44, 0, tiles + 1) + located)
            + full(b"iinf", struct.pack(">H", tiles + 1) + b"".join(infos))
            + full(b"iref", _box(b"dimg", parts))
            + _box(b"iprp", kept + full(b"ipma", struct.pack(">I", tiles + 1) + owned)),
        )

    head = _box(b"ftyp", b"heic" + bytes(4) + b"mif1heic")
    length = len(head) + len(meta(0)) + 8
    return head + meta(length) + _box(b"mdat", data + grid)


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _box_of(file: bytes, kind: bytes) -> bytes:
    """A box with its head."""
    at = file.index(kind) - 4
    return file[at : at + int.from_bytes(file[at : at + 4])]


def not_images() -> dict[str, bytes]:
    """Bodies that are no image, or no whole one, by what is wrong with them."""
    whole = {
        name: encode(picture(64, 48), name)
        for name in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "AVIF")
    }
    whole["HEIC"] = heic("turned-1")
    whole["TIFF"] = encode(picture(64, 48), "TIFF", compression="tiff_lzw")
    truncated = {f"truncated {name}": data[: len(data) // 2] for name, data in whole.items()}
    magic_only = {f"only the magic number of {name}": data[:12] for name, data in whole.items()}
    zeros = struct.pack(">IIBBBBB", 0, 0, 8, 2, 0, 0, 0)
    return {
        "empty": b"",
        "text": b"this is no image, it is only text",
        "HTML": b"<!DOCTYPE html><html><body>404</body></html>",
        "one byte": b"\xff",
        "zeros": bytes(4096),
        "random bytes": np.random.default_rng(0).bytes(4096),
        "random bytes after a JPEG's magic number": b"\xff\xd8\xff"
        + np.random.default_rng(1).bytes(999),
        "only the brands of an AVIF": b"\0\0\0\x1cftypavif" + bytes(100),
        "only the brands of a HEIC": b"\0\0\0\x1cftypheic" + bytes(100),
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "ICO": b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x18\0" + bytes(100),
        "PPM": b"P6 1 1 255 abc",
        "PDF": b"%PDF-1.7\n",
        "zero size": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", zeros) + chunk(b"IEND", b""),
        "wrong checksum": whole["PNG"].replace(b"IDAT", b"IDAt"),
        "empty profile after the data": png(picture(8, 8), 2, after=chunk(b"iCCP", b"")),
        "indexed without a palette": png(picture(8, 8)[..., 0], 3),
        **truncated,
        **magic_only,
    }


def mutations(seeds: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """``count`` damaged copies of ``seeds``: cut, flipped, overwritten, moved, spliced."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        data = bytearray(seeds[rng.integers(len(seeds))])
        for _ in range(rng.integers(1, 5)):
            _mutate(data, rng, seeds[rng.integers(len(seeds))])
        yield bytes(data)


_LIES = (0, 1, 0x7F, 0xFF, 40_000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)


def _mutate(data: bytearray, rng: np.random.Generator, other: bytes) -> None:
    if not data:
        return
    # Headers and directories are where lies do harm; they lie at both ends.
    span, end = min(len(data), 64), len(data)
    at = int(rng.choice((rng.integers(span), end - 1 - rng.integers(span), rng.integers(end))))
    length = int(rng.integers(1, 64))
    match rng.integers(7):
        case 0:
            del data[at:]
        case 1:
            data[at] ^= 1 << int(rng.integers(8))
        case 2:
            data[at] = int(rng.integers(256))
        case 3:
            data[at : at + 4] = struct.pack("<>"[rng.integers(2)] + "I", rng.choice(_LIES))
        case 4:
            del data[at : at + length]
        case 5:
            data[at:at] = data[at - length : at]
        case _:
            data[at : at + length] = other[at : at + length]

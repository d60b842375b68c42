"""What an attacker sends, as bytes on a connection, and what may be answered.

Each kind is a function of a random generator that makes one :class:`Shot`; :data:`KINDS` says how
often each kind comes.
"""

import base64
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from tests.imagery import (
    animation,
    bmp_rle,
    bombs,
    chunk,
    disguised,
    encode,
    many_scans,
    mutations,
    not_images,
    picture,
    tiff,
)
from tests.imagery import png as png_file

Random = np.random.Generator


@dataclass(frozen=True)
class Shot:
    """One connection's worth of attack.

    Attributes:
        data: what is sent.
        statuses: what the first answer's status may be; empty: whatever, or nothing at all.
        good: for each answer that must be right, which of :func:`good_images` it is about.
        cut: send only so many bytes, then leave.
        pieces: send in so many pieces, with a pause between them.
        stays: after ``data``, wait in silence for what the server does.
    """

    data: bytes
    statuses: frozenset[int] = frozenset()
    good: tuple[int, ...] = ()
    cut: int | None = None
    pieces: int = 1
    stays: bool = field(default=False)


REFUSED = frozenset({400, 413})
EITHER = REFUSED | {200}


@cache
def good_images() -> list[bytes]:
    """Images of every format; the answers are asked for in peace, before the attack."""
    pixels = [np.roll(picture(40, 48), 7 * i, axis=1) for i in range(4)]
    return [
        *(encode(p, "PNG") for p in pixels),
        *(encode(p, "JPEG", quality=90) for p in pixels),
        encode(pixels[0], "JPEG", quality=90, progressive=True),
        encode(pixels[1], "WEBP", lossless=True),
        encode(pixels[2], "TIFF"),
        encode(pixels[3], "BMP"),
        encode(pixels[0], "GIF"),
    ]


def request(
    body: bytes = b"",
    kind: str = "image/png",
    *,
    target: str = "/predict",
    method: str = "POST",
    length: int | str | None = None,
    headers: str = "",
) -> bytes:
    """A request; ``length`` is what Content-Length says of the body."""
    announced = len(body) if length is None else length
    return (
        f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {announced}\r\n{headers}\r\n"
    ).encode("latin-1") + body


def form(parts: list[tuple[str, bytes]], boundary: str = "edge") -> bytes:
    """A multipart body of named parts."""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'
    pieces = [(head % name).encode() + content + b"\r\n" for name, content in parts]
    return b"".join([*pieces, f"--{boundary}--\r\n".encode()])


def chunked(body: bytes, size: int) -> bytes:
    """A body in chunks."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


CHUNKED = (
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
FORM = "multipart/form-data; boundary=edge"


def pick(rng: Random) -> tuple[int, bytes]:
    which = int(rng.integers(len(good_images())))
    return which, good_images()[which]


# ── good ones ────────────────────────────────────────────────────────────────────────────────────


def good(rng: Random) -> Shot:
    which, image = pick(rng)
    match rng.integers(5):
        case 0:
            data = request(form([("image", image), ("note", b"x")]), FORM)
        case 1:
            text = json.dumps({"image": base64.b64encode(image).decode()}).encode()
            data = request(text, "application/json")
        case 2:
            data = CHUNKED + chunked(image, int(rng.integers(1, 400)))
        case 3:
            data = request(image, headers="Connection: Upgrade\r\nUpgrade: h2c\r\n")
        case _:
            data = request(image, "application/octet-stream")
    return Shot(data, frozenset({200}), (which,))


def slow(rng: Random) -> Shot:
    which, image = pick(rng)
    return Shot(request(image), frozenset({200}), (which,), pieces=int(rng.integers(2, 12)))


def pipelined(rng: Random) -> Shot:
    chosen = [pick(rng) for _ in range(int(rng.integers(2, 8)))]
    data = b"".join(request(image) for _, image in chosen)
    return Shot(data, frozenset({200}), tuple(which for which, _ in chosen))


# ── bad bodies ───────────────────────────────────────────────────────────────────────────────────


def truncated(rng: Random) -> Shot:
    _, image = pick(rng)
    return Shot(request(image[: int(rng.integers(len(image)))]), EITHER)


def damaged(rng: Random) -> Shot:
    (data,) = mutations(good_images(), 1, seed=int(rng.integers(2**31)))
    return Shot(request(data), EITHER)


def noise(rng: Random) -> Shot:
    head = rng.choice(np.array([b"", b"\xff\xd8\xff", b"GIF89a", b"II*\0", b"RIFF\0\0\0\0WEBP"]))
    return Shot(request(bytes(head) + rng.bytes(int(rng.integers(5000)))), REFUSED)


def no_image(rng: Random) -> Shot:
    bodies = list(not_images().values())
    return Shot(request(bodies[int(rng.integers(len(bodies)))]), REFUSED)


@cache
def artful_json() -> list[bytes]:
    """Bodies that would take seconds or much memory to take apart."""
    return [b'{"x":[' + b"[]," * 10**6 + b"1]}", b'{"image": "' + b"a " * 10**6 + b'"}']


@cache
def many_images() -> bytes:
    """A form of more images than anybody may send."""
    return form([("image", b"x")] * 20_000)


def wrong(rng: Random) -> Shot:
    _, image = pick(rng)
    shots = (
        Shot(request(b"<html>", "text/html"), frozenset({415})),
        Shot(request(image, headers="Content-Encoding: gzip\r\n"), frozenset({415})),
        Shot(request(image, target="/predict?top_k=many"), frozenset({422})),
        Shot(request(image, target="/predict?timeout_ms=-1"), frozenset({422})),
        Shot(request(image, target="/predict?model=../../etc/passwd"), frozenset({404})),
        Shot(request(image, target="/predict?version=%2e%2e%2f"), frozenset({404})),
        Shot(request(method="GET"), frozenset({405})),
        Shot(request(method="GET", target="/models/..%2f..%2fetc"), frozenset({404})),
        Shot(request(method="GET", target="/attention/" + "x" * 500), frozenset({422})),
        Shot(request(b'{"image": 7}', "application/json"), frozenset({400})),
        Shot(request(b"[" * 100_000, "application/json"), frozenset({400})),
        *(Shot(request(body, "application/json"), REFUSED) for body in artful_json()),
        Shot(request(method="GET", target="/models?" + "a&" * 20_000), frozenset({400})),
        Shot(
            request(method="GET", target="/attention/x", headers=f"Accept: {'a,' * 20_000}\r\n"),
            frozenset({422}),
        ),
        Shot(request(b'{"image": "' + b"=" * 50_000 + b'"}', "application/json"), REFUSED),
        Shot(request(b"\xff\xfe\xfa", "application/json"), frozenset({400})),
    )
    return shots[int(rng.integers(len(shots)))]


def deep_form(rng: Random) -> Shot:
    _, image = pick(rng)
    inner = form([("image", image)], "inner")
    nested = inner
    for level in range(20):
        nested = form([("nested", nested)], f"level{level}")
    shots = (
        Shot(request(form([("x", nested)]), FORM), frozenset({400})),
        Shot(request(form([(f"x{i}", b"") for i in range(2000)]), FORM), frozenset({400})),
        Shot(request(form([("image", image)] * 40), FORM), frozenset({400})),
        Shot(request(many_images(), FORM), frozenset({400})),
        Shot(request(form([("image", image)])[:-10], FORM), frozenset({400})),
        Shot(request(b"--edge\r\n" * 5000, FORM), frozenset({400})),
        Shot(request(b"--edge\r\nX: " + b"y" * 300_000, FORM), frozenset({400})),
        Shot(request(b"--edge\r\n" + b"X: y\r\n" * 50_000, FORM), frozenset({400})),
        Shot(request(form([("image", image)]), FORM + "x" * 5000), frozenset({400})),
        # Its first line tells the boundary that its head does not.
        Shot(request(form([("image", image)]), "multipart/form-data"), frozenset({200})),
    )
    return shots[int(rng.integers(len(shots)))]


# ── lies and broken HTTP ─────────────────────────────────────────────────────────────────────────


def lies(rng: Random) -> Shot:
    _, image = pick(rng)
    shots = (
        # More is announced than comes: the time for bodies ends it.
        Shot(request(image, length=len(image) + 1), frozenset({408}), stays=True),
        Shot(request(image, length=10**15), frozenset({413})),
        Shot(request(image, length=len(image) // 2), EITHER),  # the rest is no request
        *(Shot(request(image, length=text), frozenset({400})) for text in ("-1", "1e3", "0x10")),
        Shot(request(image, headers="Content-Length: 5\r\n"), frozenset({400})),
        Shot(request(image, headers="Transfer-Encoding: chunked\r\n"), frozenset({400})),
        Shot(CHUNKED + b"zz\r\n" + image, frozenset({400})),
        Shot(CHUNKED + b"ffffffffffffffffff\r\n" + image, frozenset({400})),
        Shot(CHUNKED + chunked(image, 100)[:-5], frozenset({408}), stays=True),
    )
    return shots[int(rng.integers(len(shots)))]


def broken_http(rng: Random) -> Shot:
    lines = (
        b"\x16\x03\x01\x02\0\x01\0",
        b"GET\r\n\r\n",
        b"GET /predict HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT evil.test:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET \xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n: y\r\n\r\n",
        rng.bytes(2000) + b"\r\n\r\n",
    )
    return Shot(lines[int(rng.integers(len(lines)))], frozenset({400}))


def huge_head(rng: Random) -> Shot:
    head = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n"
    if rng.integers(2):
        return Shot(head + b"X: " + b"y" * int(rng.integers(200_000, 2_000_000)))
    return Shot(head + b"".join(b"X%d: y\r\n" % i for i in range(40_000)))


def leaves(rng: Random) -> Shot:
    _, image = pick(rng)
    data = request(image)
    return Shot(data, cut=int(rng.integers(1, len(data) + 1)))


# ── bombs ────────────────────────────────────────────────────────────────────────────────────────


def header_bomb(rng: Random) -> Shot:
    made = list(bombs(int(rng.integers(8000, 40_000))).values())
    return Shot(request(made[int(rng.integers(len(made)))]), REFUSED)


@cache
def inflating() -> list[bytes]:
    """Small files within the limit on pixels that become 16 megapixels, or cost time otherwise."""
    black = np.zeros((4000, 4000), np.uint8)
    frames = [np.full((300, 300, 3), i, np.uint8) for i in range(200)]
    return [
        encode(black, "PNG"),
        encode(black, "GIF"),
        encode(black, "TIFF", compression="tiff_lzw"),
        encode(black, "TIFF", compression="tiff_adobe_deflate"),
        encode(black, "WEBP", lossless=True),
        encode(black, "JPEG", progressive=True),
        animation(frames, "GIF"),
        many_scans(picture(64, 64), 50),
        disguised(many_scans(picture(64, 64), 50)),
        many_scans(picture(2000, 2000), 30),
        bmp_rle(900_000, 1),
        tiff(32, 32, strips=2, repeats=99_999),
        png_file(picture(16, 16), 2, before=chunk(b"tEXt", b"a\0b") * 300_000),
        png_file(picture(16, 16), 2, before=chunk(b"zTXt", b"a\0\0" + b"\x78\x9c" + b"\0" * 9_000)),
        b"II+\0" + struct.pack("<HHQ", 8, 0, 2**63),
    ]


def inflating_bomb(rng: Random) -> Shot:
    made = inflating()
    return Shot(request(made[int(rng.integers(len(made)))]), EITHER)


KINDS: dict[str, tuple[float, Callable[[Random], Shot]]] = {
    "good": (0.40, good),
    "slow bodies": (0.03, slow),
    "pipelined": (0.03, pipelined),
    "truncated": (0.08, truncated),
    "damaged": (0.08, damaged),
    "random bytes": (0.06, noise),
    "no image": (0.03, no_image),
    "wrong types": (0.07, wrong),
    "deep multipart": (0.04, deep_form),
    "lies about length": (0.03, lies),
    "broken HTTP": (0.04, broken_http),
    "huge headers": (0.01, huge_head),
    "early disconnect": (0.05, leaves),
    "header bombs": (0.04, header_bomb),
    "inflating bombs": (0.01, inflating_bomb),
}
"""Name, share of all requests, and what makes one."""

"""What bodies are taken apart into, and what an artful one cannot cost."""

import asyncio
import base64
import tracemalloc
from typing import Any
from urllib.parse import quote

import pytest
from starlette.requests import Request

from gsop.api.http.bodies import LARGE_BYTES, MAX_JSON_VALUES, Parts, read_images
from gsop.api.http.body_limits import BodyLimits
from gsop.errors import InvalidParameter, RequestError, UnsupportedMediaType
from gsop.serving.body_memory import BodyMemory
from tests.chaos.shots import FORM, form

MAX_IMAGES = 4
MAX_BYTES = 10 * LARGE_BYTES


OPTIONS = ("top_k", "attention")


async def read_parts(body: bytes, kind: str = FORM) -> Parts:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    request = Request({"type": "http", "headers": [(b"content-type", kind.encode())]}, receive)
    with BodyMemory(MAX_BYTES, MAX_BYTES).share("") as share:
        return await read_images(
            request,
            share,
            BodyLimits(MAX_BYTES, 60, 0),
            max_images=MAX_IMAGES,
            options=OPTIONS,
        )


async def read(body: bytes, kind: str = FORM) -> list[bytes]:
    return (await read_parts(body, kind)).images


def parts(body: bytes, kind: str = "") -> Parts:
    return asyncio.run(read_parts(body, kind))


def read_json(text: str) -> list[bytes]:
    return asyncio.run(read(text.encode(), "application/json"))


def test_images_beyond_the_limit_are_not_even_looked_at() -> None:
    most = form([("image", b"x")] * MAX_IMAGES)
    assert asyncio.run(read(most)) == [b"x"] * MAX_IMAGES
    # What comes behind the first one too many is broken, and is never seen.
    more = form([("image", b"x")] * (MAX_IMAGES + 1)).removesuffix(b"--\r\n") + b"no boundary"
    with pytest.raises(RequestError, match=f"more than {MAX_IMAGES} images"):
        asyncio.run(read(more))


@pytest.mark.parametrize("value", ["[]", "{}", "1", '{"a": 1}'])
def test_json_is_not_built_if_it_holds_much_beside_the_image(value: str) -> None:
    def body(count: int) -> str:
        return f'{{"others": [{", ".join([value] * count)}], "image": "eA=="}}'

    with pytest.raises(InvalidParameter, match="'others'"):
        read_json(body(MAX_JSON_VALUES // 4))
    with pytest.raises(RequestError, match="holds too much"):
        read_json(body(MAX_JSON_VALUES))
    with pytest.raises(RequestError, match="holds too much"):
        read_json("[" * 1_000_000)


def test_base64_may_be_spaced_and_nothing_else() -> None:
    image = bytes(range(256))
    text = base64.encodebytes(image).decode()
    assert read_json(f'{{"image": "{text.replace(chr(10), chr(92) + "r" + chr(92) + "n ")}"}}') == [
        image
    ]
    for wrong in ("eAAAA", "ä", "\\u2003eA==", "eA==!", "eA==eA=="):
        with pytest.raises(RequestError, match="not base64"):
            read_json(f'{{"image": "{wrong}"}}')


@pytest.mark.parametrize("kind", [FORM, "application/json"])
def test_the_event_loop_goes_on_while_a_large_body_is_taken_apart(kind: str) -> None:
    image = b"\r\n--edg" * (LARGE_BYTES // 4)
    body = form([("image", image)])
    if kind == "application/json":
        body = b'{"image": "%b"}' % base64.b64encode(image)

    async def check() -> None:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        turning = asyncio.create_task(turn())
        assert await read(body, kind) == [image]
        assert turns > 1  # the body came at once: on the loop, nothing else would have had a turn
        turning.cancel()

    asyncio.run(check())


PNG = bytes.fromhex("89504e470d0a1a0a") + bytes(range(256))
TEXT = base64.b64encode(PNG).decode()
URL_SAFE = base64.urlsafe_b64encode(PNG).decode().rstrip("=")
BOUNDARY = FORM.partition("boundary=")[2]
URLENCODED = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    "kind",
    ["", URLENCODED, "text/plain", "application/json", FORM, "image/jpeg", "video/mp4", "nonsense"],
)
def test_an_image_is_an_image_whatever_it_is_called(kind: str) -> None:
    assert parts(PNG, kind) == Parts([PNG])


@pytest.mark.parametrize("kind", ["", URLENCODED, "text/plain", "application/octet-stream"])
@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        URL_SAFE,
        f'"{TEXT}"',
        f"data:image/png;base64,{TEXT}",
        base64.encodebytes(PNG).decode(),
    ],
    ids=["standard", "URL-safe", "JSON text", "data URL", "lines"],
)
def test_a_body_of_base64_is_the_image(kind: str, text: str) -> None:
    assert parts(text.encode(), kind).images == [PNG]


@pytest.mark.parametrize("kind", ["", "application/json", "text/plain", "application/x.my+json"])
def test_json_is_known_by_its_brace(kind: str) -> None:
    body = f'\ufeff {{"image": "{URL_SAFE}", "top_k": 3, "attention": null}}'.encode()
    assert parts(body, kind) == Parts([PNG], {"top_k": 3})


def test_json_of_several_images() -> None:
    assert read_json(f'{{"images": ["{TEXT}", "{URL_SAFE}"]}}') == [PNG, PNG]
    assert read_json(f'"{TEXT}"') == [PNG]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"images": []}', "must be"),
        ('{"images": "eA"}', "must be a list"),
        ('{"images": ["eA", 7]}', r"images\[1\] must be a text"),
        ('{"images": ["eA", "?"]}', r"images\[1\] is not base64"),
        ('{"image": [137, 80, 78, 71]}', "image must be a text: the file's bytes in base64"),
        ('{"image": "eA", "images": ["eA"]}', "both there"),
        ('{"images": ["eA", "eA", "eA", "eA", "eA"]}', f"more than {MAX_IMAGES} images"),
        ('{"picture": "eA"}', "'picture' is no member that is read; a body may hold image or"),
        ('{"image": "eA", "topk": 1}', "'topk' is no member that is read"),
        ('{"instances": [{"b64": "eA"}]}', "'instances'"),
    ],
)
def test_json_is_refused_by_what_is_wrong_with_it(text: str, told: str) -> None:
    with pytest.raises(RequestError, match=told):
        read_json(text)


def test_a_form_tells_its_boundary_itself() -> None:
    body = form([("image", PNG)])
    assert parts(body, "multipart/form-data").images == [PNG]
    assert parts(body, "").images == [PNG]


@pytest.mark.parametrize("name", ["image", "images", "image[]", "images[]"])
def test_a_form_of_several_images_and_options(name: str) -> None:
    body = form([(name, PNG), ("top_k", b"3"), (name, TEXT.encode()), ("submit", b"Send")])
    assert parts(body, FORM) == Parts([PNG, PNG], {"top_k": "3"})


def test_a_form_without_an_image_tells_what_there_is() -> None:
    with pytest.raises(RequestError, match="no field named 'image' but 'file': rename it"):
        parts(form([("file", PNG)]), FORM)


def test_an_urlencoded_form() -> None:
    assert parts(f"top_k=3&image={TEXT}".encode(), URLENCODED) == Parts([PNG], {"top_k": "3"})
    with pytest.raises(InvalidParameter, match="'topk'"):
        parts(b"topk=3&image=eA", URLENCODED)
    with pytest.raises(RequestError, match="no field named 'image'"):
        parts(b"top_k=3", URLENCODED)


def test_an_urlencoded_form_is_read_with_its_escapes() -> None:
    image = PNG + bytes(range(256)) * 3  # with each letter of base64 that is escaped
    text = base64.b64encode(image).decode()
    assert {"+", "/"} < set(text)
    for encoded in (quote(text, safe=""), text, quote(text, safe="").replace("%2B", "%2b")):
        body = f"%74op_k=3&&image={encoded}&".encode()
        assert parts(body, URLENCODED) == Parts([image], {"top_k": "3"})


@pytest.mark.parametrize("text", [b"%", b"%41", b"%2b%", b"%ff"])
def test_escapes_without_end_are_refused_and_not_taken_apart(text: bytes) -> None:
    body = b"image=" + text * (2**20 // len(text))
    tracemalloc.start()
    try:
        with pytest.raises(RequestError, match="--data-binary"):
            parts(body, URLENCODED)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20  # it took 200
    finally:
        tracemalloc.stop()
    with pytest.raises(RequestError, match="too many fields"):
        parts(b"image=&" * 2**16, URLENCODED)


def test_what_holds_no_image_is_refused_by_its_type() -> None:
    with pytest.raises(UnsupportedMediaType, match="text/html without an image"):
        parts(b"<html>", "text/html")
    assert parts(b"\x89PNG\x1alines lost", URLENCODED).images  # its decoder knows the remedy

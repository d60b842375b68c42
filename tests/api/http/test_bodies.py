"""What bodies are taken apart into, and what an artful one cannot cost."""

import asyncio
import base64
from typing import Any

import pytest
from starlette.requests import Request

from gsop.api.http.bodies import LARGE_BYTES, MAX_JSON_VALUES, read_images
from gsop.api.http.body_limits import BodyLimits
from gsop.errors import RequestError
from gsop.serving.body_memory import BodyMemory
from tests.chaos.shots import FORM, form

MAX_IMAGES = 4
MAX_BYTES = 10 * LARGE_BYTES


async def read(body: bytes, kind: str = FORM) -> list[bytes]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    request = Request({"type": "http", "headers": [(b"content-type", kind.encode())]}, receive)
    with BodyMemory(MAX_BYTES, MAX_BYTES).share("") as share:
        return await read_images(
            request, share, BodyLimits(MAX_BYTES, 60, 0), max_images=MAX_IMAGES
        )


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

    assert read_json(body(MAX_JSON_VALUES // 4)) == [b"x"]
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
    for wrong in ("eA", "ä", "\\u2003eA==", "eA==!"):
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

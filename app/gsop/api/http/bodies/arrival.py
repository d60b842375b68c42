"""A body's bytes, counted while they stream."""

import asyncio

from fastapi import Request

from gsop.errors import BodyTimeout, BodyTooLarge, RequestError
from gsop.serving.classify import BodyShare


async def receive(request: Request, memory: BodyShare, *, max_bytes: int, seconds: float) -> bytes:
    """The whole body of a request.

    Raises:
        BodyTimeout: if it has not come within ``seconds``.
        Overloaded: if the bodies of other requests leave no memory for it.
        BodyTooLarge: as soon as more than ``max_bytes`` are announced or have come.
        RequestError: if there is none.
        ClientDisconnect: if the client leaves before its end.
    """
    try:
        async with asyncio.timeout(seconds):
            body = await _receive(request, memory, max_bytes)
    except TimeoutError as error:
        raise BodyTimeout(
            f"the body did not come whole within {seconds:g} s; send it faster, or a smaller image"
        ) from error
    if not body:
        raise RequestError("the body is empty; send an image")
    return body


async def _receive(request: Request, memory: BodyShare, max_bytes: int) -> bytes:
    too_large = BodyTooLarge(f"the body has more than {max_bytes} bytes; send a smaller image")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise too_large
    parts, count = [], 0
    async for part in request.stream():
        count += len(part)
        if count > max_bytes:
            raise too_large
        memory.add(len(part))
        parts.append(part)
    return b"".join(parts)

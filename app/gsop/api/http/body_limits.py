"""What bounds a request's body while it comes, for every protocol over HTTP.

A protocol that reads a body asks :func:`gather`; so it gets all of these by itself:

- more bytes than :attr:`BodyLimits.max_bytes` are refused when they are announced, by the head or
  by the size of a chunk, and else when they come;
- the body has :attr:`BodyLimits.seconds`, and must be as fast as :attr:`BodyLimits.rate`;
- what is held counts to the front's memory for bodies and to the client's share of it
  (:class:`gsop.serving.body_memory.BodyShare`, of ``visit.memory``), and a body that would not fit
  the share is refused before it is read.

What is no HTTP, such as gRPC, bounds by itself what comes (:mod:`gsop.api.oip.grpc_reading`), and
counts with ``visit.memory.add()`` what has come.
"""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any, NamedTuple, Self

from starlette.requests import ClientDisconnect, Request

from gsop.errors import BodyTimeout, BodyTooLarge
from gsop.serving.body_memory import BodyMemory, BodyShare
from gsop.settings import Settings

LEAST_RATE = 1000
"""Bytes a second by which bodies are compared where some have to make room."""

FIRST_SECONDS = 5.0
"""In which a body need not keep up with its rate: a connection may stand still a while."""

MAX_SMALL_BYTES = 64 * 1024
"""Of a body that holds no image."""

ANNOUNCED = "gsop.announced"
"""In a request's ASGI scope: its body's :class:`Announced`, where the server tells it."""


class Announced:
    """What is known to come of a request's body, from the sizes of its chunks.

    Attributes:
        bytes: at least so many.
    """

    def __init__(self) -> None:
        self.bytes = 0


class BodyLimits(NamedTuple):
    """How much may come, and how slowly.

    Attributes:
        max_bytes: of the body.
        seconds: until it has come whole.
        rate: bytes a second, after :data:`FIRST_SECONDS`; 0: any.
    """

    max_bytes: int
    seconds: float
    rate: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those that the settings say."""
        return cls(settings.max_body_bytes, settings.body_seconds, settings.body_rate)

    def seconds_for(self, count: int) -> float:
        """How long the body may take, of which ``count`` bytes have come."""
        if not self.rate:
            return self.seconds
        return min(self.seconds, FIRST_SECONDS + count / self.rate)


async def gather(request: Request, memory: BodyShare, limits: BodyLimits) -> bytes:
    """A request's body as it came, whatever it is.

    Raises:
        BodyTimeout: if it comes too slowly.
        BodyTooLarge: as soon as more bytes are announced or have come than it may have.
        Overloaded: if the bodies of other requests leave no memory for it.
        ClientOverloaded: if this client's leave none.
        ClientDisconnect: if the client leaves before its end.
    """
    length = request.headers.get("content-length", "")
    announced = int(length[:20]) if length.isdigit() else 0
    _check(announced, limits)
    memory.expect(announced)
    began, parts, count = asyncio.get_running_loop().time(), [], 0
    try:
        async with asyncio.timeout_at(began + limits.seconds_for(0)) as timeout:
            async for part in _parts(request):
                count += len(part)
                _check(max(count, _announced(request.scope)), limits)
                memory.add(len(part))
                parts.append(part)
                timeout.reschedule(began + limits.seconds_for(count))
    except TimeoutError as error:
        raise BodyTimeout(
            f"the body did not come whole within {limits.seconds:g} s, or came too slowly; "
            "send it faster, or a smaller image"
        ) from error
    return b"".join(parts)


async def gather_small(request: Request, settings: Settings) -> bytes:
    """The body of a call that takes no image; raises as :func:`gather`."""
    limits = BodyLimits.of(settings)._replace(max_bytes=MAX_SMALL_BYTES)
    with BodyMemory(MAX_SMALL_BYTES, MAX_SMALL_BYTES).share("") as share:
        return await gather(request, share, limits)


async def _parts(request: Request) -> AsyncIterator[bytes]:
    """What comes; empty where only something was announced, which ``request.stream()`` hides."""
    more_body = True
    while more_body:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        more_body = message.get("more_body", False)
        yield message.get("body", b"")


def _announced(scope: MutableMapping[str, Any]) -> int:
    announced: Announced | None = scope.get(ANNOUNCED)
    return announced.bytes if announced is not None else 0


def _check(count: int, limits: BodyLimits) -> None:
    if count > limits.max_bytes:
        raise BodyTooLarge(f"the body has more than {limits.max_bytes} bytes; send a smaller image")

"""Whose turn it is to send a message over gRPC."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gsop.api.oip.grpc_reading import Reading
from gsop.errors import BodyTimeout, Overloaded, RequestError
from gsop.settings import Settings

HERE, THERE = "ipv4:192.0.2.1", "ipv4:192.0.2.2"


def reading(seconds: float) -> Reading:
    """Two turns, of which a client has one."""
    return Reading(Settings.load(body_seconds=seconds, body_memory_bytes=2000, max_body_bytes=1000))


class Message:
    """One that comes when it is let."""

    def __init__(self) -> None:
        self.come = asyncio.Event()
        self.is_waited_for = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self.is_waited_for = True
        await self.come.wait()
        return b"message"


async def nothing() -> AsyncIterator[bytes]:
    none: list[bytes] = []
    for message in none:
        yield message


def test_a_client_has_half_of_the_turns() -> None:
    async def take() -> None:
        turns = reading(30)
        first, second, other = Message(), Message(), Message()
        tasks = [
            asyncio.ensure_future(turns.read(message, address))
            for message, address in ((first, HERE), (second, HERE), (other, THERE))
        ]
        await asyncio.sleep(0.01)
        assert [m.is_waited_for for m in (first, second, other)] == [True, False, True]
        first.come.set()
        await tasks[0]
        await asyncio.sleep(0.01)
        assert [m.is_waited_for for m in (second, other)] == [True, True]
        second.come.set()
        other.come.set()
        assert await asyncio.gather(*tasks) == [b"message"] * 3

    asyncio.run(take())


def test_whoever_sends_nothing_is_refused_and_whoever_waits_behind_is_told_why() -> None:
    async def take() -> None:
        turns = reading(0.5)
        slow = asyncio.ensure_future(turns.read(Message(), HERE))
        await asyncio.sleep(0.01)
        turns._seconds = 0.01
        with pytest.raises(Overloaded, match="other calls"):
            await turns.read(Message(), HERE)
        with pytest.raises(BodyTimeout, match="within"):
            await slow
        with pytest.raises(RequestError, match="no message"):
            await turns.read(nothing(), HERE)

    asyncio.run(take())

"""How messages come over gRPC: so many at a time as a front has memory for.

gRPC tells of a message when it has come whole. What a stream may send before somebody waits for its
message is little; so the turn to send one is given out here, to each client at most half of all.
"""

import asyncio
from collections.abc import AsyncIterator
from weakref import WeakValueDictionary

from gsop.errors import BodyTimeout, Overloaded, RequestError
from gsop.serving.clients import client_of
from gsop.settings import Settings

Messages = AsyncIterator[bytes]


class Reading:
    """A front's reading of messages."""

    def __init__(self, settings: Settings) -> None:
        self._seconds = settings.body_seconds
        most = max(2, settings.body_memory_bytes // settings.max_body_bytes)
        self._share = most // 2
        self._turns = asyncio.Semaphore(most)
        self._turns_of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def read(self, messages: Messages, address: str) -> bytes:
        """A call's message.

        Args:
            messages: the call's.
            address: where it comes from.

        Raises:
            Overloaded: if others' messages leave no turn for it in time.
            BodyTimeout: if it has not come in time.
            RequestError: if there is none.
        """
        own = self._turns_of.setdefault(client_of(address), asyncio.Semaphore(self._share))
        try:
            async with asyncio.timeout(self._seconds) as timeout, own, self._turns:
                timeout.reschedule(None)
                return await self._next(messages)
        except TimeoutError as error:
            raise Overloaded("the messages of other calls leave no room for this one") from error

    async def _next(self, messages: Messages) -> bytes:
        try:
            async with asyncio.timeout(self._seconds):
                return await anext(messages)
        except TimeoutError as error:
            raise BodyTimeout(
                f"the message did not come whole within {self._seconds:g} s"
            ) from error
        except StopAsyncIteration as error:
            raise RequestError("the call has no message") from error

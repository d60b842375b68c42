"""The bytes of requests that a front holds, shared out between its clients."""

from collections import Counter
from typing import Self

from gsop.errors import ClientOverloaded, Overloaded


class BodyMemory:
    """The bytes of bodies that a front holds, and may hold, at once.

    Attributes:
        free: how many more there may be.
        share_bytes: how many of them one client may have.
    """

    def __init__(self, capacity: int, share_bytes: int) -> None:
        self.free = capacity
        self.share_bytes = share_bytes
        self.of_client: Counter[str] = Counter()

    def share(self, client: str) -> "BodyShare":
        """One request's share: a context manager, at whose end it is given back."""
        return BodyShare(self, client)


class BodyShare:
    """What one request has taken of the front's :class:`BodyMemory`, in bytes."""

    def __init__(self, memory: BodyMemory, client: str) -> None:
        self._memory = memory
        self._client = client
        self.held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        memory = self._memory
        memory.free += self.held
        memory.of_client[self._client] -= self.held
        if not memory.of_client[self._client]:
            del memory.of_client[self._client]
        self.held = 0

    def expect(self, count: int) -> None:
        """Judge a body of ``count`` bytes before it is read; none is taken yet.

        Raises:
            Overloaded: if there is no memory for it now.
            ClientOverloaded: if its client has too much already.
        """
        memory = self._memory
        if memory.of_client[self._client] + count > memory.share_bytes:
            raise ClientOverloaded(
                "your other requests fill your share of the memory for bodies; wait for their "
                "answers before sending more"
            )
        if count > memory.free:
            raise Overloaded("the bodies of other requests fill the memory that is set aside")

    def add(self, count: int) -> None:
        """Count ``count`` bytes more.

        Raises:
            Overloaded: if that is more than there may be.
            ClientOverloaded: if it is more than one client may have.
        """
        self.expect(count)
        self._memory.free -= count
        self._memory.of_client[self._client] += count
        self.held += count

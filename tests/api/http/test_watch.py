"""A request's work ends with its connection, under our protocol and under other servers."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Scope

from gsop.api.http.guard import WATCH
from gsop.api.http.service import watch_of
from gsop.serving.classify import CallerLeft, while_watched


class Connection:
    """A client that stays until :meth:`end`, under a server that knows ASGI alone."""

    def __init__(self) -> None:
        self._gone = asyncio.Event()

    def end(self) -> None:
        self._gone.set()

    async def receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    def scope(self) -> Scope:
        return {"type": "http"}


class WatchedConnection(Connection):
    """The same under our protocol: it tells who watches."""

    on_leave: Callable[[], None] | None = None

    def end(self) -> None:
        if self.on_leave is not None:
            self.on_leave()

    def scope(self) -> Scope:
        return {**super().scope(), WATCH: self.watch}

    def watch(self, on_leave: Callable[[], None] | None) -> None:
        self.on_leave = on_leave


@pytest.fixture(params=[Connection, WatchedConnection])
def kind(request: pytest.FixtureRequest) -> type[Connection]:
    made: type[Connection] = request.param
    return made


async def work(connection: Connection, seconds: float) -> str:
    with while_watched(watch_of(Request(connection.scope(), connection.receive))):
        await asyncio.sleep(seconds)
    await asyncio.sleep(0)  # what is left of the watch would be heard here
    return "done"


def test_who_leaves_ends_the_work(kind: type[Connection]) -> None:
    async def run() -> None:
        connection = kind()
        task = asyncio.create_task(work(connection, 60))
        await asyncio.sleep(0.01)
        connection.end()
        with pytest.raises(CallerLeft):
            await asyncio.wait_for(task, 5)

    asyncio.run(run())


def test_who_leaves_afterwards_ends_nothing(kind: type[Connection]) -> None:
    async def run() -> None:
        connection = kind()
        with while_watched(watch_of(Request(connection.scope(), connection.receive))):
            await asyncio.sleep(0.01)
            if kind is Connection:
                connection.end()  # seen by the watch, but told only after the block
        connection.end()
        await asyncio.sleep(0.01)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_another_cancellation_stays_one(kind: type[Connection]) -> None:
    async def run() -> None:
        task = asyncio.create_task(work(kind(), 60))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def test_nobody_leaves(kind: type[Connection]) -> None:
    assert asyncio.run(work(kind(), 0.01)) == "done"

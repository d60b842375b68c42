"""The client against an engine that follows a script: what it does when engines die."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from gsop.arena.counters import COUNTERS
from gsop.arena.layout import Arena, Deployment, EngineState, Outcome, Phase
from gsop.arena.messages import Decoder, Kind, Message, address_prefix, encode, listen
from gsop.errors import (
    DeadlineExceeded,
    Draining,
    EngineCrashed,
    NonFiniteOutput,
    NotReady,
    Overloaded,
    UnknownModel,
)
from gsop.serving.client import EngineClient, Inference
from gsop.settings import Settings
from gsop.store.catalog import resolve

SECOND = 1_000_000_000


@pytest.fixture
def arena(tiny_store: Path) -> Iterator[Arena]:
    settings = Settings.load(models="tiny", slots=4, fronts=1, device="cpu")
    arena = Arena.create(
        Deployment(
            settings=settings,
            manifests=(resolve(tiny_store, "tiny"),),
            address=address_prefix(f"test-{time.monotonic_ns()}", "."),
            counters=COUNTERS,
        )
    )
    arena.engines["state"], arena.engines["epoch"] = EngineState.READY, 1
    yield arena
    arena.close()


class ScriptedEngine:
    """The engine's end of the socket, in the hands of a test."""

    def __init__(self, arena: Arena, listener: socket.socket) -> None:
        self._arena = arena
        self._listener = listener

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        self._connection, _ = await loop.sock_accept(self._listener)
        self._connection.setblocking(False)
        self._decoder = Decoder()
        self._messages: list[Message] = []

    async def receive(self) -> Message:
        loop = asyncio.get_running_loop()
        while not self._messages:
            data = await loop.sock_recv(self._connection, 1 << 16)
            self._messages += self._decoder.feed(data)
        return self._messages.pop(0)

    def begin(self, message: Message) -> None:
        self._arena.slots["running"][message.number] = message.ticket

    def complete(self, message: Message, outcome: Outcome = Outcome.OK) -> None:
        now = time.monotonic_ns()
        slots = self._arena.slots
        slots["started"][message.number] = slots["finished"][message.number] = now
        slots["outcome"][message.number] = outcome
        self._arena.outputs[message.number] = message.number
        slots["done"][message.number] = message.ticket

    async def reply(self, message: Message) -> None:
        loop = asyncio.get_running_loop()
        data = encode(Kind.DONE, message.number, message.ticket)
        await loop.sock_sendall(self._connection, data)

    def die(self) -> None:
        self._connection.close()


Script = Callable[[EngineClient, ScriptedEngine], Awaitable[None]]


def run(arena: Arena, script: Script) -> None:
    @asynccontextmanager
    async def connected() -> AsyncIterator[tuple[EngineClient, ScriptedEngine]]:
        with listen(arena.deployment.engine_address(0)) as listener:
            listener.setblocking(False)
            async with EngineClient(arena, 0) as client:
                engine = ScriptedEngine(arena, listener)
                await engine.connect()
                yield client, engine
                engine.die()

    async def main() -> None:
        async with asyncio.timeout(30), connected() as (client, engine):
            await script(client, engine)

    asyncio.run(main())


async def infer(client: EngineClient, seconds: float = 20) -> Inference:
    with client.acquire(client.models[0]) as (slot,):
        deadline = time.monotonic_ns() + int(seconds * SECOND)
        return await client.infer(slot, deadline=deadline, top_k=1)


def test_an_answer_arrives(arena: Arena) -> None:
    async def script(client: EngineClient, engine: ScriptedEngine) -> None:
        waiting = asyncio.create_task(infer(client))
        message = await engine.receive()
        assert message.kind == Kind.INFER
        engine.complete(message)
        await engine.reply(message)
        inference = await waiting
        np.testing.assert_array_equal(inference.values, message.number)

    run(arena, script)


def test_what_waited_is_sent_again_to_the_successor(arena: Arena) -> None:
    async def script(client: EngineClient, engine: ScriptedEngine) -> None:
        waiting = asyncio.create_task(infer(client))
        first = await engine.receive()
        engine.die()
        await engine.connect()
        again = await engine.receive()
        assert again == first
        engine.complete(again)
        await engine.reply(again)
        await waiting

    run(arena, script)


def test_what_was_running_is_sent_again_alone(arena: Arena) -> None:
    async def script(client: EngineClient, engine: ScriptedEngine) -> None:
        waiting = asyncio.create_task(infer(client))
        first = await engine.receive()
        engine.begin(first)
        engine.die()
        await engine.connect()
        again = await engine.receive()
        assert (again.kind, again.number, again.ticket) == (
            Kind.INFER_ALONE,
            first.number,
            first.ticket,
        )
        engine.complete(again)
        await engine.reply(again)
        await waiting

    run(arena, script)


def test_an_image_that_kills_engines_is_given_up_and_others_live(arena: Arena) -> None:
    async def script(client: EngineClient, engine: ScriptedEngine) -> None:
        poison = asyncio.create_task(infer(client))
        engine.begin(await engine.receive())
        innocent = asyncio.create_task(infer(client))
        await engine.receive()
        engine.die()
        await engine.connect()
        for _ in range(2):  # once alone may be chance
            assert not poison.done()
            messages = [await engine.receive(), await engine.receive()]
            assert {m.kind for m in messages} == {Kind.INFER, Kind.INFER_ALONE}
            (alone,) = [m for m in messages if m.kind == Kind.INFER_ALONE]
            engine.begin(alone)
            engine.die()
            if not poison.done():
                await engine.connect()
        with pytest.raises(EngineCrashed):
            await poison
        last = await engine.receive()
        assert last.kind == Kind.INFER
        engine.complete(last)
        await engine.reply(last)
        await innocent
        assert (arena.slots["ticket"] == 0).all()

    run(arena, script)


def test_an_answer_written_before_the_death_counts(arena: Arena) -> None:
    async def script(client: EngineClient, engine: ScriptedEngine) -> None:
        waiting = asyncio.create_task(infer(client))
        message = await engine.receive()
        engine.begin(message)
        engine.complete(message)
        engine.die()
        await waiting
        await engine.connect()

    run(arena, script)


def test_an_answer_to_an_earlier_ticket_is_ignored(arena: Arena) -> None:
    async def script(client: EngineClient, engine: ScriptedEngine) -> None:
        with pytest.raises(DeadlineExceeded):
            await infer(client, seconds=0.05)
        late = await engine.receive()
        waiting = [asyncio.create_task(infer(client)) for _ in range(4)]
        messages = [await engine.receive() for _ in range(4)]
        engine.complete(late)
        await engine.reply(late)
        (current,) = [m for m in messages if m.number == late.number]
        assert current.ticket != late.ticket
        for message in messages:
            engine.complete(message)
            await engine.reply(message)
        await asyncio.gather(*waiting)

    run(arena, script)


@pytest.mark.parametrize(
    ("outcome", "error"),
    [(Outcome.EXPIRED, DeadlineExceeded), (Outcome.NON_FINITE, NonFiniteOutput)],
)
def test_bad_outcomes_are_errors(arena: Arena, outcome: Outcome, error: type[Exception]) -> None:
    async def script(client: EngineClient, engine: ScriptedEngine) -> None:
        waiting = asyncio.create_task(infer(client))
        message = await engine.receive()
        engine.complete(message, outcome)
        await engine.reply(message)
        with pytest.raises(error):
            await waiting

    run(arena, script)


def test_slots_are_the_admission_ticket(arena: Arena) -> None:
    async def script(client: EngineClient, engine: ScriptedEngine) -> None:
        model = client.models[0]
        with client.acquire(model, 3), pytest.raises(Overloaded), client.acquire(model, 2):
            pass
        with client.acquire(model, 4) as slots:
            assert len({slot.number for slot in slots}) == 4
            assert all(slot.image.shape == (32, 32, 3) for slot in slots)
        assert (arena.slots["ticket"] == 0).all()

    run(arena, script)


def test_nothing_is_admitted_before_and_after_service(arena: Arena) -> None:
    async def script(client: EngineClient, engine: ScriptedEngine) -> None:
        arena.engines["epoch"] = 0
        with pytest.raises(NotReady):
            await infer(client)
        arena.engines["epoch"] = 1
        arena.service["phase"] = Phase.DRAINING
        with pytest.raises(Draining):
            await infer(client)

    run(arena, script)


def test_models_are_found_by_name_and_version(arena: Arena) -> None:
    client = EngineClient(arena, 0)
    default = client.models[0]
    assert client.model(None, None) is default
    assert client.model("tiny", None) is default
    assert client.model("tiny", "1") is default
    assert client.model(None, "1") is default
    for name, version in (("other", None), ("tiny", "2"), (None, "2")):
        with pytest.raises(UnknownModel, match="tiny/1"):
            client.model(name, version)


def test_a_new_client_takes_its_predecessors_slots_back(arena: Arena) -> None:
    arena.slots["ticket"] = 99
    client = EngineClient(arena, 0)
    assert (arena.slots["ticket"] == 0).all()
    assert client.capacity == 4

"""The engines as a front sees them: one that follows a script, and what happens when it dies."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from gsop.arena.block import Role
from gsop.arena.board import Board, EngineBoard, SeatBoard
from gsop.arena.counters import Meter
from gsop.arena.deployment import Deployment
from gsop.arena.layout import Arena
from gsop.arena.messages import Decoder, Kind, Message, address_prefix, encode, listen
from gsop.arena.service import ServiceMemory, ServicePlan
from gsop.arena.service_board import ServiceBoard, SupervisorBoard
from gsop.arena.slot import EngineSlots
from gsop.arena.states import EngineState, Outcome, Phase
from gsop.errors import (
    ClientOverloaded,
    DeadlineExceeded,
    Draining,
    EngineCrashed,
    NonFiniteOutput,
    NotReady,
    Overloaded,
)
from gsop.serving.engines import Engines, Inference
from gsop.settings import Settings
from gsop.store.catalog import resolve

SECOND = 1_000_000_000


class Service:
    """A service's memory and an arena, and each role's hand on them."""

    def __init__(self, store: Path, *, generation: int = 1, **settings: object) -> None:
        chosen = Settings.load(
            **{"models": "tiny", "slots": 4, "fronts": 1, "device": "cpu"} | settings
        )
        self.supervisor = Arena.create(
            Deployment(
                settings=chosen,
                manifests=(resolve(store, "tiny"),),
                address=address_prefix(f"test-{time.monotonic_ns()}", "."),
                generation=generation,
            )
        )
        self.memory = ServiceMemory.create(ServicePlan(settings=chosen))
        self.front = Arena.attach(self.supervisor.fd, Role("front"))
        self.supervisor_board = SupervisorBoard(self.memory)
        self._seats = SeatBoard(self.supervisor)

    def close(self) -> None:
        self.supervisor.close()
        self.memory.close()

    def engines(self) -> Engines:
        """As a front sees them."""
        memory = ServiceMemory.attach(self.memory.fd, Role("front"))
        return Engines(self.front, ServiceBoard(memory), Meter(memory))

    def engine(self, number: int = 0) -> Arena:
        return Arena.attach(self.supervisor.fd, Role("engine", number))

    def be_ready(self, number: int = 0) -> None:
        incarnation = self._seats.incarnation(number)
        EngineBoard(self.engine(number), incarnation).enter(EngineState.READY)

    @property
    def slots_used(self) -> int:
        return Board(self.front).slots_used


@pytest.fixture
def service(tiny_store: Path) -> Iterator[Service]:
    made = Service(tiny_store)
    made.be_ready()
    yield made
    made.close()


class ScriptedEngine:
    """The engine's end of the socket, in the hands of a test."""

    def __init__(self, service: Service, listener: socket.socket, number: int = 0) -> None:
        self._slots = EngineSlots(service.engine(number))
        self._width = service.front.deployment.answer_width
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
        self._slots.begin([message.number], [message.ticket])

    def complete(self, message: Message, outcome: Outcome = Outcome.OK) -> None:
        now = time.monotonic_ns()
        values = np.full((1, self._width), message.number, np.float32)
        self._slots.answer([message.number], values, started=now, finished=now)
        if outcome != Outcome.OK:
            self._slots.refuse(message.number, outcome)
        self._slots.conclude(message.number, message.ticket)

    async def reply(self, message: Message) -> None:
        loop = asyncio.get_running_loop()
        data = encode(Kind.DONE, message.number, message.ticket)
        await loop.sock_sendall(self._connection, data)

    def die(self) -> None:
        self._connection.close()


Script = Callable[[Engines, ScriptedEngine], Awaitable[None]]


def run(service: Service, script: Script) -> None:
    @asynccontextmanager
    async def connected() -> AsyncIterator[tuple[Engines, ScriptedEngine]]:
        with listen(service.front.deployment.engine_address(0)) as listener:
            listener.setblocking(False)
            engines = service.engines()
            await engines.open()
            engine = ScriptedEngine(service, listener)
            await engine.connect()
            yield engines, engine
            engine.die()
            engines.close()

    async def main() -> None:
        async with asyncio.timeout(30), connected() as (engines, engine):
            await script(engines, engine)

    asyncio.run(main())


async def infer(engines: Engines, seconds: float = 20) -> Inference:
    with engines.acquire(engines.models[0]) as (slot,):
        deadline = time.monotonic_ns() + int(seconds * SECOND)
        return await engines.infer(slot, deadline=deadline, top_k=1)


def test_an_answer_arrives(service: Service) -> None:
    async def script(engines: Engines, engine: ScriptedEngine) -> None:
        waiting = asyncio.create_task(infer(engines))
        message = await engine.receive()
        assert message.kind == Kind.INFER
        engine.complete(message)
        await engine.reply(message)
        inference = await waiting
        np.testing.assert_array_equal(inference.values, message.number)

    run(service, script)


def test_what_waited_is_sent_again_to_the_successor(service: Service) -> None:
    async def script(engines: Engines, engine: ScriptedEngine) -> None:
        waiting = asyncio.create_task(infer(engines))
        first = await engine.receive()
        engine.die()
        await engine.connect()
        again = await engine.receive()
        assert (again.kind, again.number) == (Kind.INFER, first.number)
        engine.complete(again)
        await engine.reply(again)
        await waiting

    run(service, script)


def test_what_was_running_is_sent_again_alone(service: Service) -> None:
    async def script(engines: Engines, engine: ScriptedEngine) -> None:
        waiting = asyncio.create_task(infer(engines))
        first = await engine.receive()
        engine.begin(first)
        engine.die()
        await engine.connect()
        again = await engine.receive()
        assert (again.kind, again.number) == (Kind.INFER_ALONE, first.number)
        assert again.ticket != first.ticket, "what was written about the first try counts no more"
        engine.complete(again)
        await engine.reply(again)
        await waiting

    run(service, script)


def test_an_image_that_kills_engines_is_given_up_and_others_live(service: Service) -> None:
    async def script(engines: Engines, engine: ScriptedEngine) -> None:
        poison = asyncio.create_task(infer(engines))
        engine.begin(await engine.receive())
        innocent = asyncio.create_task(infer(engines))
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
        assert service.slots_used == 0

    run(service, script)


def test_an_answer_written_before_the_death_counts(service: Service) -> None:
    async def script(engines: Engines, engine: ScriptedEngine) -> None:
        waiting = asyncio.create_task(infer(engines))
        message = await engine.receive()
        engine.begin(message)
        engine.complete(message)
        engine.die()
        await waiting
        await engine.connect()

    run(service, script)


def test_an_answer_to_an_earlier_ticket_is_ignored(service: Service) -> None:
    async def script(engines: Engines, engine: ScriptedEngine) -> None:
        with pytest.raises(DeadlineExceeded):
            await infer(engines, seconds=0.05)
        late = await engine.receive()
        waiting = [asyncio.create_task(infer(engines)) for _ in range(4)]
        messages = [await engine.receive() for _ in range(4)]
        engine.complete(late)
        await engine.reply(late)
        (current,) = [m for m in messages if m.number == late.number]
        assert current.ticket != late.ticket
        for message in messages:
            engine.complete(message)
            await engine.reply(message)
        await asyncio.gather(*waiting)

    run(service, script)


@pytest.mark.parametrize(
    ("outcome", "error"),
    [(Outcome.EXPIRED, DeadlineExceeded), (Outcome.NON_FINITE, NonFiniteOutput)],
)
def test_bad_outcomes_are_errors(
    service: Service, outcome: Outcome, error: type[Exception]
) -> None:
    async def script(engines: Engines, engine: ScriptedEngine) -> None:
        waiting = asyncio.create_task(infer(engines))
        message = await engine.receive()
        engine.complete(message, outcome)
        await engine.reply(message)
        with pytest.raises(error):
            await waiting

    run(service, script)


def test_slots_are_the_admission_ticket(service: Service) -> None:
    async def script(engines: Engines, engine: ScriptedEngine) -> None:
        model = engines.models[0]
        with engines.acquire(model, 3), pytest.raises(Overloaded), engines.acquire(model, 2):
            pass
        with engines.acquire(model, 4) as slots:
            assert len({slot.number for slot in slots}) == 4
            assert all(slot.pixels.shape == (32, 32, 3) for slot in slots)
            assert service.slots_used == 4
        assert service.slots_used == 0

    run(service, script)


def test_a_share_of_the_slots_is_one_callers(tiny_store: Path) -> None:
    service = Service(tiny_store, slots_per_client=2)
    service.be_ready()
    engines = service.engines()
    model = engines.models[0]
    with engines.acquire(model, 2, sharer="one"):
        with pytest.raises(ClientOverloaded), engines.acquire(model, 1, sharer="one"):
            pass
        with engines.acquire(model, 2, sharer="another"):
            pass
    with engines.acquire(model, 2, sharer="one"):
        pass
    service.close()


def test_nothing_is_admitted_before_and_after_service(tiny_store: Path) -> None:
    service = Service(tiny_store)

    async def script(engines: Engines, engine: ScriptedEngine) -> None:
        with pytest.raises(NotReady):
            await infer(engines)
        service.be_ready()
        service.supervisor_board.enter(Phase.DRAINING)
        with pytest.raises(Draining):
            await infer(engines)

    run(service, script)
    service.close()


def test_versions_are_found(service: Service) -> None:
    engines = service.engines()
    assert engines.find("tiny", "1") is engines.models[0]
    assert engines.find("tiny", "2") is None
    assert engines.find("other", "1") is None


def test_a_later_generation_takes_requests_before_it_is_ready(tiny_store: Path) -> None:
    service = Service(tiny_store, generation=2)

    async def script(engines: Engines, engine: ScriptedEngine) -> None:
        waiting = asyncio.create_task(infer(engines))
        message = await engine.receive()
        engine.complete(message)
        await engine.reply(message)
        await waiting

    run(service, script)
    service.close()


def test_whoever_waits_in_a_generation_that_is_ended_learns_it(service: Service) -> None:
    async def script(engines: Engines, engine: ScriptedEngine) -> None:
        waiting = asyncio.create_task(infer(engines))
        await engine.receive()
        assert engines.held == 1
        service.supervisor_board.end_before(2)
        engine.die()
        with pytest.raises(NotReady, match="send the request again"):
            await waiting
        assert engines.held == 0

    run(service, script)


def test_a_new_front_takes_its_predecessors_slots_back(service: Service) -> None:
    with service.engines().acquire(service.engines().models[0], 1):
        successor = service.engines()
        assert service.slots_used == 0
        assert successor.capacity == 4

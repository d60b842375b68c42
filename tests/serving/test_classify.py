"""The use case without a protocol: who is let in, what a request may hold, what is counted."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from gsop.arena.block import Role
from gsop.arena.board import EngineBoard, SeatBoard
from gsop.arena.counters import Meter, totals
from gsop.arena.families import IMAGES, SPAN_SECONDS, Family, Ledger
from gsop.arena.layout import Arena
from gsop.arena.service import ServiceMemory, ServicePlan
from gsop.arena.service_board import ServiceBoard, SupervisorBoard
from gsop.arena.slot import EngineSlots
from gsop.arena.states import EngineState, Outcome, Phase
from gsop.errors import (
    ClientOverloaded,
    DeadlineExceeded,
    Draining,
    GSoPError,
    InvalidImage,
    NonFiniteOutput,
    NotReady,
    Overloaded,
    UnknownModel,
)
from gsop.keys import ANYBODY, Caller
from gsop.processes.nursery import Birth, Report
from gsop.serving.book import VersionBook
from gsop.serving.classify import CallerLeft, Classified, Classifier, Outcomes, Visit
from gsop.serving.decoders import Decoders
from gsop.serving.decoding import Effort
from gsop.serving.engines import Engines
from gsop.serving.generation import Arenas, Generation, Generations
from gsop.serving.link import Waiter
from tests.arena.conftest import deployment

BROKEN, SLOW = b"broken", b"slow"


def _bear_nobody(_: Birth) -> Report:
    raise AssertionError("its generations have no decoders to be born")


class Decoding:
    """Takes the place of the decoders: an image is its first byte, over and over."""

    async def decode(
        self,
        image: bytes,
        model: int,
        out: npt.NDArray[np.uint8],
        *,
        deadline: int,
        client: str,
        effort: Effort,
    ) -> None:
        if image == BROKEN:
            raise InvalidImage("it is no image")
        await asyncio.sleep(60 if image == SLOW else 0)
        out[:] = image[0]


class InstantEngines(Engines):
    """Engines that answer in the loop's next round: each image with its first pixel."""

    outcome = Outcome.OK

    def __init__(self, arena: Arena, engine: Arena, board: ServiceBoard, meter: Meter) -> None:
        super().__init__(arena, board, meter)
        self._engine = EngineSlots(engine)

    def _send(self, waiter: Waiter) -> None:
        asyncio.get_running_loop().call_soon(self._answer, waiter)

    def _answer(self, waiter: Waiter) -> None:
        pixel, now = self._engine.pixels(waiter.slot, 0)[0, 0, 0], time.monotonic_ns()
        values = np.array([[pixel, 1]], np.float32)
        self._engine.answer([waiter.slot], values, started=now, finished=now + 1_000_000)
        if self.outcome != Outcome.OK:
            self._engine.refuse(waiter.slot, self.outcome)
        self._engine.conclude(waiter.slot, waiter.ticket)
        waiter.finish(0)


class Service:
    """A front's classifier, beside engines that are always ready."""

    def __init__(self, *, ready: bool = True, **settings: object) -> None:
        plan = deployment(**{"fronts": 1, "device": "cpu"} | settings)
        self.arena = Arena.create(plan)
        self.memory = ServiceMemory.create(ServicePlan(settings=plan.settings))
        SeatBoard(self.arena)
        self.supervisor = SupervisorBoard(self.memory)
        self.book = VersionBook(self.memory, self.supervisor, plan.manifests)
        engine = Arena.attach(self.arena.fd, Role("engine"))
        if ready:
            EngineBoard(engine, 1).enter(EngineState.READY)
        front = Arena.attach(self.arena.fd, Role("front"))
        memory = ServiceMemory.attach(self.memory.fd, Role("front"))
        generations = Generations(memory, Arenas(memory.role), 1, _bear_nobody)
        self.engines = InstantEngines(front, engine, generations.board, generations.meter)
        generations.use(Generation(1, self.engines, cast("Decoders", Decoding())))
        self.classifier = Classifier(generations)
        self.leave: Callable[[], None] | None = None

    def close(self) -> None:
        self.arena.close()
        self.memory.close()

    def watch(self, on_leave: Callable[[], None] | None) -> None:
        self.leave = on_leave

    def admitted(self, caller: Caller = ANYBODY, address: str = "here") -> Visit:
        return self.classifier.admit(None, None, caller, address)

    async def classify(self, *images: bytes, **options: Any) -> Outcomes:
        with self.admitted() as visit:
            chosen = {"top_k": 1, "timeout_ms": None, "watch": self.watch} | options
            return await visit.classify(images, **chosen)

    def counted(self, family: Family, *labels: str) -> float:
        row = totals(self.memory)
        places = dict(Ledger(self.memory.plan.routes).rows(family))
        at = places[labels]
        return float(row[at : at + family.width][: max(1, len(family.buckets) + 1)].sum())


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


def run(awaitable: Awaitable[Outcomes]) -> Outcomes:
    async def main() -> Outcomes:
        async with asyncio.timeout(20):
            return await awaitable

    return asyncio.run(main())


def answers(outcomes: Sequence[Classified | GSoPError]) -> list[float | str]:
    return [
        float(one.inference.values[0]) if isinstance(one, Classified) else one.code
        for one in outcomes
    ]


def test_an_image_is_answered_and_counted(service: Service) -> None:
    (one,) = run(service.classify(b"\7"))
    assert isinstance(one, Classified)
    assert one.inference.values.tolist() == [7, 1]
    assert one.inference.inference_seconds == pytest.approx(0.001)
    assert one.model.manifest.name == "tiny"
    assert service.counted(IMAGES, "ok") == 1
    for part in ("read", "decode", "queue", "inference", "total"):
        assert service.counted(SPAN_SECONDS, part) == 1


def test_of_several_images_a_bad_one_harms_no_other(service: Service) -> None:
    found = run(service.classify(b"\1", BROKEN, b"\3"))
    assert answers(found) == [1, "invalid_image", 3]
    assert (service.counted(IMAGES, "ok"), service.counted(IMAGES, "invalid_image")) == (2, 1)


def test_a_bad_image_alone_is_an_outcome_too(service: Service) -> None:
    (one,) = run(service.classify(BROKEN))
    assert isinstance(one, InvalidImage)


def test_a_failure_of_the_engine_is_an_outcome(service: Service) -> None:
    service.engines.outcome = Outcome.NON_FINITE
    (one,) = run(service.classify(b"\1"))
    assert isinstance(one, NonFiniteOutput)
    assert service.counted(IMAGES, "non_finite_output") == 1


def test_slots_are_given_back_whatever_happens(service: Service) -> None:
    for images in ([b"\1"], [BROKEN], [b"\1", BROKEN, b"\2", b"\3"]):
        run(service.classify(*images))
        assert service.engines.board.slots_used == 0


def test_who_leaves_ends_the_work_and_frees_the_slot(service: Service) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(service.classify(SLOW))
        await asyncio.sleep(0)
        assert service.engines.board.slots_used == 1
        assert service.leave is not None
        service.leave()
        with pytest.raises(CallerLeft):
            await task
        assert service.engines.board.slots_used == 0

    asyncio.run(main())
    assert service.counted(IMAGES, "cancelled") == 1
    assert service.leave is None, "it is not watched any more"


def test_the_deadline_counts_from_the_requests_head(service: Service) -> None:
    async def main() -> Outcomes:
        with service.admitted() as visit:
            await asyncio.sleep(0.02)  # the body comes slowly
            return await visit.classify([b"\1"], top_k=1, timeout_ms=10, watch=service.watch)

    (one,) = asyncio.run(main())
    assert isinstance(one, DeadlineExceeded)


def test_more_images_than_free_slots_are_refused_together(service: Service) -> None:
    assert service.classifier.max_images == 4
    with pytest.raises(Overloaded):
        run(service.classify(*[b"\1"] * 5))
    assert service.engines.board.slots_used == 0


def test_a_share_is_a_keys_or_without_keys_an_addresses(service: Service) -> None:
    shared = Service(slots_per_client=1)
    key = Caller("shop", 1, ANYBODY.scopes)

    async def ask(caller: Caller, address: str, image: bytes) -> Outcomes:
        with shared.admitted(caller, address) as visit:
            return await visit.classify([image], top_k=1, timeout_ms=None, watch=lambda _: None)

    async def main() -> None:
        tasks = [
            asyncio.ensure_future(ask(ANYBODY, "one", SLOW)),
            asyncio.ensure_future(ask(key, "one", SLOW)),
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for caller, address in ((ANYBODY, "one"), (key, "two")):
            with pytest.raises(ClientOverloaded):
                await ask(caller, address, b"\1")
        assert answers(await ask(ANYBODY, "two", b"\2")) == [2]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    shared.arena.close()


def test_refusals_come_before_the_body_is_read(service: Service) -> None:
    starting = Service(ready=False)
    with pytest.raises(NotReady), starting.admitted():
        pytest.fail("it was let in")
    with pytest.raises(UnknownModel), service.classifier.admit("nobody", None, ANYBODY, ""):
        pytest.fail("it was let in")
    service.supervisor.enter(Phase.DRAINING)
    with pytest.raises(Draining), service.admitted():
        pytest.fail("it was let in")
    starting.arena.close()


def test_bodies_share_the_fronts_memory_and_give_it_back() -> None:
    small = Service(max_body_bytes=100, body_memory_bytes=150)
    with small.admitted(address="one") as first, small.admitted(address="two") as second:
        first.memory.add(100)
        with pytest.raises(ClientOverloaded), small.admitted(address="one") as again:
            again.memory.add(1)
        second.memory.add(50)
        with pytest.raises(Overloaded, match="bodies of other requests"):
            second.memory.add(1)
    with small.admitted(address="three") as third, small.admitted(address="four") as fourth:
        third.memory.add(100)
        fourth.memory.add(50)
    small.arena.close()

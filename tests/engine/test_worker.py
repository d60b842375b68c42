"""The engine's loop, in a thread, spoken to over its own socket."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsop.arena.block import Role
from gsop.arena.board import Board, EngineBoard, SeatBoard
from gsop.arena.counters import Meter
from gsop.arena.deployment import Deployment
from gsop.arena.layout import Arena
from gsop.arena.messages import Decoder, Kind, Message, address_prefix, connect, encode, listen
from gsop.arena.service import ServiceMemory, ServicePlan
from gsop.arena.slot import Finished, FrontSlots, Slot
from gsop.arena.states import Outcome
from gsop.backends.base import OutOfMemory, Pixels, Place, Values
from gsop.backends.null import NullBackend
from gsop.engine.inbox import Inbox
from gsop.engine.worker import Worker
from gsop.gates.tally import HostTally
from gsop.processes.lifeline import make_lifeline
from gsop.settings import Settings
from tests.arena.conftest import manifest
from tests.support import eventually

FAR = 2**62
"""A deadline that is never over, however long ago this module was imported; nanoseconds."""
MANIFEST = manifest()


class Seen(NullBackend):
    """Answers each image with its first pixel, and lets a test do in between what a front might."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.meanwhile: Callable[[], None] = lambda: None
        self.fits = self.max_batch
        self.batches: list[int] = []
        self.shrunk: list[int] = []

    def submit(self, images: Sequence[Pixels]) -> int:
        if len(images) > self.fits:
            raise OutOfMemory("there is no room")
        self.batches.append(len(images))
        self._values = np.array([[image[0, 0, 0], 1] for image in images], np.float32)
        self.meanwhile()
        return len(images)

    def result(self, pending: int) -> Values:
        return self._values

    def shrink(self, most: int) -> None:
        assert sys.exc_info()[1] is None, "its traceback would hold the batch's memory"
        super().shrink(most)
        self.shrunk.append(most)


class Service:
    """A front's hand on the slots, and an engine that runs in a thread."""

    def __init__(self, arena: Arena, kind: type[Seen] = Seen) -> None:
        self.arena = arena
        self.memory = ServiceMemory.create(ServicePlan(settings=arena.deployment.settings))
        SeatBoard(arena)
        self.board = Board(arena)
        self.slots = FrontSlots(Arena.attach(arena.fd, Role("front")))
        place = Place(max_batch=4)
        self.backend = kind.open(Path(), MANIFEST, place)
        self.decoder = Decoder()

    def ask(self, value: int, *, id_: str = "an id", deadline: int = FAR) -> tuple[Slot, int]:
        """Hold and submit an image whose pixels are all ``value``."""
        slot = self.slots.hold(0, 0)
        slot.pixels[:] = value
        now = time.monotonic_ns()
        ticket = self.slots.submit(slot.number, id=id_, top_k=1, deadline=deadline, submitted=now)
        return slot, ticket

    def send(self, *asked: tuple[Slot, int], kind: Kind = Kind.INFER) -> None:
        self.front.sendall(b"".join(encode(kind, slot.number, ticket) for slot, ticket in asked))

    def hear(self, count: int) -> list[Message]:
        """The next messages."""
        heard: list[Message] = []
        while len(heard) < count:
            heard += self.decoder.feed(self.front.recv(4096))
        return heard

    def answer(self, value: int, **options: Any) -> Finished:
        """One image all the way."""
        slot, ticket = self.ask(value, **options)
        self.send((slot, ticket))
        (message,) = self.hear(1)
        assert (message.kind, message.number, message.ticket) == (Kind.DONE, slot.number, ticket)
        assert self.slots.is_done(slot.number, ticket, 0)
        found = self.slots.read(slot, 0)
        self.slots.release(slot)
        return found

    @contextmanager
    def running(self) -> Iterator[Worker]:
        lifeline, its_end = make_lifeline()
        arena = Arena.attach(self.arena.fd, Role("engine"))
        address = arena.deployment.engine_address(0)
        with listen(address) as listener, lifeline, its_end, Inbox(listener, its_end) as inbox:
            meter = Meter(ServiceMemory.attach(self.memory.fd, Role("engine")))
            worker = Worker(arena, EngineBoard(arena, 1), [self.backend], inbox, meter)
            thread = threading.Thread(target=worker.run)
            thread.start()
            self.lifeline = lifeline
            with connect(address) as self.front:
                self.front.settimeout(20)
                yield worker
            lifeline.close()
            thread.join(20)
            assert not thread.is_alive(), "it leaves with its lifeline"


@contextmanager
def made_service(kind: type[Seen] = Seen, **settings: object) -> Iterator[Service]:
    chosen = {"models": "tiny", "slots": 4, "fronts": 1, "device": "cpu", "attention_records": 2}
    deployment = Deployment(
        settings=Settings.load(**chosen | settings),
        manifests=(MANIFEST,),
        address=address_prefix(f"worker-{time.monotonic_ns()}", "."),
    )
    arena = Arena.create(deployment)
    made = Service(arena, kind)
    yield made
    made.memory.close()
    arena.close()


@pytest.fixture
def service() -> Iterator[Service]:
    with made_service() as made:
        yield made


def test_an_answer_is_handed_out_and_remembered_under_its_id(service: Service) -> None:
    with service.running() as worker:
        found = service.answer(7, id_="first")
    assert found.outcome == Outcome.OK
    np.testing.assert_array_equal(found.values, [7, 1])
    kept = worker.memories[0].record("first")
    assert kept is not None
    np.testing.assert_array_equal(kept.values, found.values)


def test_gates_are_summed_up_where_the_backend_says(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    tally = HostTally(service.backend.manifest.answer.gate_size)
    monkeypatch.setattr(service.backend, "tally", lambda: tally)
    with service.running():
        service.answer(1)
        eventually(lambda: tally.total().samples == 1)


def test_what_waits_goes_in_one_batch_and_each_gets_its_own(service: Service) -> None:
    with service.running():
        asked: list[tuple[Slot, int]] = []

        def others_come() -> None:
            service.backend.meanwhile = lambda: None
            asked.extend(service.ask(value) for value in (11, 12, 13))
            service.send(*asked)

        service.backend.meanwhile = others_come
        first = service.ask(10)
        service.send(first)
        service.hear(4)
        found = [service.slots.read(slot, 0) for slot, _ in (first, *asked)]
    assert service.backend.batches == [1, 3]
    assert [(answer.values[0], answer.batch) for answer in found] == [
        (10, 1),
        (11, 3),
        (12, 3),
        (13, 3),
    ]


def test_a_slot_that_changes_hands_in_a_batch_is_not_remembered(service: Service) -> None:
    """Its client left, and the slot's next request must not be given its gates."""
    with service.running() as worker:
        slot, ticket = service.ask(1, id_="left")
        following: list[tuple[Slot, int]] = []

        def leave() -> None:
            service.backend.meanwhile = lambda: None
            service.slots.release(slot)
            while not following or following[-1][0].number != slot.number:
                following.append(service.ask(2, id_="next"))

        service.backend.meanwhile = leave
        service.send((slot, ticket))
        service.hear(1)
        service.send(following[-1])
        service.hear(1)
    memory = worker.memories[0]
    assert memory.statistics().samples == 1
    assert [record.id for record in memory.recent(9)] == ["next"]


def test_what_was_given_up_never_reaches_the_device(service: Service) -> None:
    with service.running():
        slot, ticket = service.ask(1)
        service.slots.release(slot)
        service.send((slot, ticket))
        service.answer(2)
    assert service.backend.batches == [1]


def test_what_has_expired_is_refused_at_once(service: Service) -> None:
    with service.running():
        found = service.answer(1, deadline=time.monotonic_ns() - 1)
    assert found.outcome == Outcome.EXPIRED
    assert service.backend.batches == []


def test_the_slots_of_a_front_that_is_gone_are_passed_over(service: Service) -> None:
    service.backend.max_batch = 1
    with service.running():
        other = connect(service.arena.deployment.engine_address(0))
        hanging = service.ask(3)
        first, second = service.ask(1), service.ask(2)

        def it_dies() -> None:
            service.backend.meanwhile = lambda: None
            other.sendall(encode(Kind.INFER, hanging[0].number, hanging[1]))
            other.close()

        service.backend.meanwhile = it_dies
        service.send(first, second)
        service.hear(2)
        service.answer(4)
    assert service.backend.batches == [1, 1, 1]
    assert not service.slots.has_begun(hanging[0].number, hanging[1], 0)


def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(service: Service) -> None:
    service.backend.fits = 1
    with service.running():
        asked = [service.ask(value) for value in range(4)]
        service.send(*asked)
        service.hear(4)
        found = [service.slots.read(slot, 0) for slot, _ in asked]
        assert all(not service.slots.has_begun(s.number, t + 1, 0) for s, t in asked)
    assert [answer.values[0] for answer in found] == [0, 1, 2, 3]
    assert service.backend.batches == [1] * 4
    assert service.backend.shrunk[-1] == 1
    assert service.board.engine(0).batch_limit == 1


def test_an_image_that_does_not_fit_alone_is_given_up(service: Service) -> None:
    service.backend.fits = 0
    with service.running():
        assert service.answer(1).outcome == Outcome.OUT_OF_MEMORY
        service.backend.fits = 4
        assert service.answer(2).outcome == Outcome.OK


def test_it_shows_what_it_is_doing(service: Service) -> None:
    since: list[int] = []
    service.backend.meanwhile = lambda: since.append(service.board.engine(0).busy_since)
    with service.running():
        before = service.board.engine(0).beat
        for value in range(3):
            service.answer(value)
        time.sleep(0.01)
        service.answer(9)
    status = service.board.engine(0)  # the books are kept after the answer is out
    assert all(since)
    assert status.busy_since == 0
    assert status.beat > before
    assert status.image_seconds > 0


def test_answers_of_another_number_than_the_images_end_the_engine(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[BaseException] = []
    monkeypatch.setattr(threading, "excepthook", lambda fault: failures.append(fault.exc_value))
    monkeypatch.setattr(Seen, "result", lambda self, pending: np.zeros((9, 2), "f4"))
    with service.running():
        service.send(service.ask(1))
        failure = eventually(lambda: failures and failures[0])
    assert "1 images went in, 9 answers came out" in str(failure)

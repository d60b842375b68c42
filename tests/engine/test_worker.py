"""The engine's loop, in a thread, spoken to over its own socket."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from gsop.arena.counters import COUNTERS
from gsop.arena.layout import Arena, Deployment, Outcome
from gsop.arena.messages import Decoder, Kind, address_prefix, connect, encode, listen
from gsop.backends.base import Pending, Predictor
from gsop.engine.pace import Pace
from gsop.engine.worker import Worker
from gsop.settings import Settings
from gsop.store.catalog import resolve
from gsop.store.store import load

FAR = time.monotonic_ns() + 10**12


class InterruptedPredictor(Predictor):
    """The real one, with a moment in each batch at which a test can do what a front might."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def submit(self, images: Sequence[npt.NDArray[np.uint8]]) -> Pending:
        self.meanwhile()
        return super().submit(images)


@pytest.fixture
def arena(tiny_store: Path) -> Iterator[Arena]:
    settings = Settings.load(models="tiny", slots=4, fronts=1, device="cpu", attention_records=2)
    arena = Arena.create(
        Deployment(
            settings=settings,
            manifests=(resolve(tiny_store, "tiny"),),
            address=address_prefix(f"worker-{time.monotonic_ns()}", "."),
            counters=COUNTERS,
        )
    )
    yield arena
    arena.close()


@pytest.fixture
def predictor(tiny_store: Path) -> InterruptedPredictor:
    manifest, model = load(tiny_store / "tiny" / "1")
    return InterruptedPredictor(
        manifest, model, device=torch.device("cpu"), dtype=torch.float32, max_batch=4
    )


@contextmanager
def running(arena: Arena, predictor: Predictor) -> Iterator[tuple[Worker, socket.socket]]:
    address = arena.deployment.engine_address(0)
    here, there = socket.socketpair()
    with listen(address) as listener, here, there:
        worker = Worker(arena, 0, [predictor], listener, there)
        thread = threading.Thread(target=worker.run)
        thread.start()
        with connect(address) as front:
            front.settimeout(20)
            yield worker, front
        here.close()
        thread.join(20)
        assert not thread.is_alive()


def hold(arena: Arena, slot: int, ticket: int, id_: str) -> None:
    """What a front writes for a request."""
    fields = arena.slots
    fields["ticket"][slot] = ticket
    fields["id"][slot], fields["top_k"][slot] = id_.encode(), 1
    fields["deadline"][slot], fields["submitted"][slot] = FAR, time.monotonic_ns()


def infer(front: socket.socket, slot: int, ticket: int) -> None:
    front.sendall(encode(Kind.INFER, slot, ticket))
    decoder = Decoder()
    while not any(m.ticket == ticket for m in decoder.feed(front.recv(4096))):
        pass


def test_an_answer_is_remembered_under_its_id(
    arena: Arena, predictor: InterruptedPredictor
) -> None:
    with running(arena, predictor) as (worker, front):
        hold(arena, 0, 1, "first")
        infer(front, 0, 1)
    kept = worker.memories[0].record("first")
    assert kept is not None
    np.testing.assert_array_equal(kept.values, arena.outputs[0, : len(kept.values)])


def test_a_slot_that_changes_hands_in_a_batch_is_not_remembered(
    arena: Arena, predictor: InterruptedPredictor
) -> None:
    """Its client left, and the slot's next request must not be given its gates."""
    with running(arena, predictor) as (worker, front):
        hold(arena, 0, 1, "left")
        predictor.meanwhile = lambda: hold(arena, 0, 2, "next")
        infer(front, 0, 1)
        predictor.meanwhile = lambda: None
        infer(front, 0, 2)
        for ticket in (3, 4, 5):  # more than are kept
            hold(arena, 0, ticket, f"later {ticket}")
            infer(front, 0, ticket)
    memory = worker.memories[0]
    assert memory.statistics().samples == 4
    assert [record.id for record in memory.recent(9)] == ["later 5", "later 4"]


def test_a_batch_is_expected_to_take_what_such_batches_took() -> None:
    pace = Pace(16)
    assert pace.expect(16) == 0
    pace.learn(2, 1000)
    assert (pace.expect(1), pace.expect(3), pace.expect(16)) == (0, 1000, 1000)
    pace.learn(16, 5000)
    pace.learn(3, 2000)
    assert (pace.expect(2), pace.expect(16)) == (1300, 5000)


def wait_for(front: socket.socket, tickets: set[int]) -> None:
    decoder = Decoder()
    while tickets:
        tickets -= {message.ticket for message in decoder.feed(front.recv(4096))}


def test_what_would_be_late_is_not_begun(arena: Arena, predictor: InterruptedPredictor) -> None:
    taken: list[int] = []

    def crawl() -> None:
        taken.append(1)
        time.sleep(0.2)

    with running(arena, predictor) as (_, front):
        predictor.meanwhile = crawl
        hold(arena, 0, 1, "one")
        infer(front, 0, 1)  # from which the engine learns how long it takes
        sent = threading.Event()

        def crawl_while_others_come() -> None:
            hold(arena, 1, 2, "hopeless")
            arena.slots["deadline"][1] = time.monotonic_ns() + 300_000_000  # 200 ms are gone then
            hold(arena, 2, 3, "patient")
            front.sendall(encode(Kind.INFER, 1, 2) + encode(Kind.INFER, 2, 3))
            predictor.meanwhile = crawl
            crawl()
            sent.set()

        predictor.meanwhile = crawl_while_others_come
        hold(arena, 0, 4, "another")
        front.sendall(encode(Kind.INFER, 0, 4))
        wait_for(front, {2, 3, 4})
        assert sent.is_set()
    assert arena.slots["outcome"][:3].tolist() == [Outcome.OK, Outcome.EXPIRED, Outcome.OK]
    assert arena.slots["running"][1] == 0
    assert len(taken) == 3


def test_the_last_that_waits_is_tried_however_long_it_is_expected_to_take(
    arena: Arena, predictor: InterruptedPredictor
) -> None:
    with running(arena, predictor) as (_, front):
        predictor.meanwhile = lambda: time.sleep(1)
        hold(arena, 0, 1, "stalled")
        infer(front, 0, 1)
        predictor.meanwhile = lambda: None
        hold(arena, 1, 2, "in a hurry")
        arena.slots["deadline"][1] = time.monotonic_ns() + 900_000_000  # less than it took before
        infer(front, 1, 2)
    assert arena.slots["outcome"][1] == Outcome.OK


class TwoAtOnce(InterruptedPredictor):
    """As on a GPU: one batch may be sent while another is computed."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.depth = 2
        self._images = self._images.repeat(2, 1, 1, 1, 1)
        self._values = self._values.repeat(2, 1, 1)


def test_what_is_retried_alone_is_alone_on_the_device(arena: Arena, tiny_store: Path) -> None:
    manifest, model = load(tiny_store / "tiny" / "1")
    predictor = TwoAtOnce(
        manifest, model, device=torch.device("cpu"), dtype=torch.float32, max_batch=4
    )
    begun_beside: list[int] = []
    with running(arena, predictor) as (worker, front):
        predictor.meanwhile = lambda: begun_beside.append(len(worker._flying))
        for slot in range(4):
            hold(arena, slot, slot + 1, str(slot))
        front.sendall(
            encode(Kind.INFER, 0, 1)
            + encode(Kind.INFER_ALONE, 1, 2)
            + encode(Kind.INFER_ALONE, 2, 3)
            + encode(Kind.INFER, 3, 4)
        )
        wait_for(front, {1, 2, 3, 4})
    assert begun_beside == [0, 0, 0]


class SlowPredictor(Predictor):
    """Takes 10 ms for a batch and 5 ms for each of its images."""

    def submit(self, images: Sequence[npt.NDArray[np.uint8]]) -> Pending:
        time.sleep(0.010 + 0.005 * len(images))
        return super().submit(images)


@pytest.fixture
def arena_with_target(tiny_store: Path) -> Iterator[Arena]:
    """Of a service whose requests should take 100 ms."""
    settings = Settings.load(models="tiny", slots=32, fronts=1, device="cpu", target_latency_ms=100)
    arena = Arena.create(
        Deployment(
            settings=settings,
            manifests=(resolve(tiny_store, "tiny"),),
            address=address_prefix(f"worker-{time.monotonic_ns()}", "."),
            counters=COUNTERS,
        )
    )
    yield arena
    arena.close()


def slow_predictor(tiny_store: Path) -> SlowPredictor:
    manifest, model = load(tiny_store / "tiny" / "1")
    return SlowPredictor(
        manifest, model, device=torch.device("cpu"), dtype=torch.float32, max_batch=16
    )


def infer_together(arena: Arena, front: socket.socket, tickets: range, waited: float = 0) -> None:
    """Send one image for each ticket at once, submitted so many seconds ago; wait for them."""
    for slot, ticket in enumerate(tickets):
        hold(arena, slot, ticket, str(ticket))
        arena.slots["submitted"][slot] -= int(waited * 1e9)
    front.sendall(b"".join(encode(Kind.INFER, slot, t) for slot, t in enumerate(tickets)))
    wait_for(front, set(tickets))


def test_a_target_latency_bounds_batches_by_what_they_cost(
    tiny_store: Path, arena_with_target: Arena
) -> None:
    arena = arena_with_target
    with running(arena, slow_predictor(tiny_store)) as (_, front):
        for size, first in ((1, 1), (1, 2), (2, 3), (2, 5), (4, 7), (4, 11)):  # costs become known
            infer_together(arena, front, range(first, first + size))
        infer_together(arena, front, range(20, 30))
    # Half the target is a batch's: 10 + 5·8 ms, less what this machine adds.
    sizes = arena.slots["batch"][:10]
    assert 2 <= sizes.max() <= 8
    assert arena.engines[0]["image_seconds"] >= 0.004


def test_where_the_target_is_lost_large_batches_catch_up(
    tiny_store: Path, arena_with_target: Arena
) -> None:
    arena = arena_with_target
    with running(arena, slow_predictor(tiny_store)) as (_, front):
        for size, first in ((1, 1), (1, 2), (2, 3), (2, 5), (4, 7), (4, 11)):
            infer_together(arena, front, range(first, first + size))
        infer_together(arena, front, range(20, 36), waited=0.2)
    assert set(arena.slots["batch"][:16].tolist()) == {16}

"""The engine's loop, in a thread, spoken to over its own socket."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from app.engine.messages import Decoder, Kind, address_prefix, connect, encode, listen
from app.engine.metrics import COUNTERS
from app.engine.predictor import Pending, Predictor
from app.engine.slots import Arena, Deployment
from app.engine.worker import Worker
from app.settings import Settings
from app.store.catalog import resolve
from app.store.store import load

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
    fields["deadline"][slot] = FAR


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
    assert memory.total.samples == 4
    assert [record.id for record in memory.recent(9)] == ["later 5", "later 4"]

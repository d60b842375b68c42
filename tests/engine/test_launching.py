"""The engine's loop where the device computes by itself, with two batches at once."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from gsop.arena.messages import Kind, encode_payload, unpack_reply
from gsop.arena.slot import Slot
from gsop.backends.base import Pixels, Values
from gsop.engine.worker import Worker
from gsop.gates.memory import GateMemory
from gsop.gates.queries import RecordQuery, ask
from tests.engine.test_worker import Seen, Service, made_service
from tests.support import eventually


class Apart(Seen):
    """A device of its own: a batch is done when the test says so."""

    depth = 2

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.finish = threading.Semaphore(0)
        self.finished = 0
        self.fails = False
        self.log: list[str] = []

    def submit(self, images: Sequence[Pixels]) -> int:
        self.log.append(f"launch {images[0][0, 0, 0]}")
        self.batches.append(len(images))
        return int(images[0][0, 0, 0])

    def wait(self, pending: int) -> None:
        self.finish.acquire()
        self.finished += 1
        if self.fails:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def result(self, pending: int) -> Values:
        if self.fails:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        assert self.finished, "the loop waits for the device itself"
        self.log.append(f"answer {pending}")
        return np.array([[pending, 1]], np.float32)


class Logged(GateMemory):
    """Tells when books are kept."""

    log: list[str]

    def add(self, ids: Sequence[str], *arguments: Any, **options: Any) -> None:
        self.log.append(f"books {ids[0]}")
        super().add(ids, *arguments, **options)


@pytest.fixture
def service() -> Iterator[Service]:
    with made_service(Apart, max_batch=1) as made:
        made.backend.max_batch = 1
        yield made


def apart(service: Service) -> Apart:
    assert isinstance(service.backend, Apart)
    return service.backend


def logged(service: Service, worker: Worker) -> list[str]:
    """What is launched, answered and remembered, in its order."""
    backend = apart(service)
    memory = Logged(service.backend.manifest.answer, 4)
    memory.log = backend.log
    worker.memories[0] = memory
    return backend.log


def test_what_comes_while_the_device_computes_is_launched_at_once(service: Service) -> None:
    backend = apart(service)
    with service.running():
        service.send(service.ask(1))
        eventually(lambda: backend.batches == [1])
        service.send(service.ask(2))
        eventually(lambda: backend.batches == [1, 1])
        backend.finish.release(2)
        service.hear(2)


def test_the_next_batch_is_launched_before_the_books_of_the_last(service: Service) -> None:
    backend = apart(service)
    with service.running() as worker:
        log = logged(service, worker)
        service.send(*(service.ask(value, id_=f"{value}") for value in (1, 2, 3)))
        eventually(lambda: log == ["launch 1", "launch 2"])
        backend.finish.release(3)
        service.hear(3)
        eventually(lambda: len(log) == 9)
    assert log.index("launch 3") < log.index("books 1")
    assert [entry for entry in log if "launch" not in entry] == [
        f"{what} {value}" for value in (1, 2, 3) for what in ("answer", "books")
    ]


def test_who_asks_finds_what_was_answered_before(service: Service) -> None:
    """Though its books may still be open."""
    backend = apart(service)
    with service.running():
        asked = [service.ask(value, id_=f"{value}") for value in (1, 2)]
        service.send(*asked)
        backend.finish.release()
        service.hear(1)
        service.front.sendall(encode_payload(Kind.QUERY, 7, ask(RecordQuery("1"))))
        (reply,) = service.hear(1)
        assert reply.ticket == 7
        found = RecordQuery("1").read(*unpack_reply(reply.payload))
        assert found is not None
        assert found[1].values.tolist() == [1, 1]
        backend.finish.release()
        service.hear(1)


def test_slots_that_are_used_again_keep_what_was_answered(service: Service) -> None:
    backend = apart(service)
    with service.running() as worker:
        for value in range(1, 9):
            slot, ticket = service.ask(value, id_=f"{value}")
            service.send((slot, ticket))
            backend.finish.release()
            service.hear(1)
            service.slots.release(slot)
        eventually(lambda: worker.memories[0].statistics().samples == 8)
        for value in (7, 8):
            kept = worker.memories[0].record(f"{value}")
            assert kept is not None
            assert kept.values.tolist() == [value, 1]


def test_a_device_that_fails_ends_the_engine(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda fault: failures.append(fault.exc_value))
    backend = apart(service)
    backend.fails = True
    with service.running():
        service.send(service.ask(1))
        backend.finish.release()
        failure = eventually(lambda: failures and failures[0])
    assert "illegal memory access" in str(failure)


def test_the_loop_can_be_told_to_wait_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    with made_service(Apart, cuda_options="launch=after") as service:
        backend = apart(service)
        backend.max_batch, backend.finished = 1, 1
        with service.running() as worker:
            log = logged(service, worker)
            asked: list[tuple[Slot, int]] = [service.ask(v, id_=f"{v}") for v in (1, 2, 3)]
            service.send(*asked)
            service.hear(3)
            eventually(lambda: len(log) == 9)
        assert log.index("books 1") < log.index("launch 3")

"""Changes of versions beside the start; without processes."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gsop.arena.service import ServiceMemory
from gsop.arena.service_board import SupervisorBoard
from gsop.errors import LoadFailed
from gsop.serving import versions
from gsop.serving.book import VersionBook
from gsop.serving.versions import Versions
from tests.arena.conftest import manifest, plan

WAIT_SECONDS = 10.0


class FirstEngines:
    """Those of the start, which are ready when they are told."""

    def __init__(self) -> None:
        self.are_ready = threading.Event()
        self.deployment = SimpleNamespace(generation=1)

    def wait_ready(self, *_: object) -> bool:
        return self.are_ready.wait(WAIT_SECONDS)


@pytest.fixture
def book() -> Iterator[VersionBook]:
    memory = ServiceMemory.create(plan())
    yield VersionBook(memory, SupervisorBoard(memory), [manifest()], None)
    memory.close()


def test_who_loads_while_the_start_is_under_way_does_not_keep_it_from_ending(
    book: VersionBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines, asked = FirstEngines(), threading.Event()
    supervisor: Any = SimpleNamespace(
        memory=SimpleNamespace(settings=SimpleNamespace(model_store=Path(), load_seconds=1)),
        present=engines,
        is_stopping=False,
        engine_memory=0,
    )
    source: Any = SimpleNamespace(bring=lambda *_: asked.set(), release=lambda *_: None)
    made = Versions(supervisor, book, source)
    monkeypatch.setattr(versions, "resolve", lambda *_: manifest())

    def change(*_: object, **__: object) -> None:
        raise LoadFailed("it came as far as this")

    monkeypatch.setattr(made, "_change_to", change)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(made.wait_first)
        load = threads.submit(made.load, "other", "1", who="somebody")
        assert asked.wait(WAIT_SECONDS)
        time.sleep(0.2)  # now it waits for the start
        engines.are_ready.set()
        assert first.result(WAIT_SECONDS)
        with pytest.raises(LoadFailed, match="as far as this"):
            load.result(WAIT_SECONDS)
    (key,) = book.manifests
    assert book.status(key).state == "ready"

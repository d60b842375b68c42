"""The attacks beside a good client of ``make chaos``, shortened."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.beside import ATTACKS, beside
from tests.support import Server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tiny_store: Path) -> Iterator[Server]:
    with Server(tiny_store, models="tiny") as server:
        yield server.wait_ready()


@pytest.mark.parametrize("name", ATTACKS)
def test_the_good_client_is_served(server: Server, name: str) -> None:
    report = beside(server, name, 1.0)
    assert not report.faults, report.show(name)

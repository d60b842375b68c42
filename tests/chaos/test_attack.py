"""The attack of ``make chaos``, shortened."""

from pathlib import Path

import pytest

from tests.chaos.attack import LIMITS, attack, show
from tests.support import Server

pytestmark = pytest.mark.slow


def test_a_mixed_attack_breaks_no_promise(tiny_store: Path) -> None:
    with Server(tiny_store, **LIMITS) as server:
        report = attack(server.wait_ready(), 600, seed=1)
    assert not report.faults, show(report)
    assert report.good > 200
    assert report.peak_bytes < report.start_bytes + 1024 * 2**20

"""The failures of ``make chaos``, shortened."""

from pathlib import Path

import pytest

from tests.chaos.failures import SCENARIOS

pytestmark = pytest.mark.slow

SECONDS = {
    "kill-engine": 6,  # two kills
    "kill-front": 3,
    "kill-supervisor": 1,
    "overload": 4,
    "drain": 1,
    "rolling-restart": 1,
    "swap-versions": 6,  # three swaps, a kill, a corrupt version
    "many-swaps": 1.5,  # five
    "shares": 3,  # a thousand requests
    "soak": 5,
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_promise_breaks(tiny_store: Path, name: str) -> None:
    report = SCENARIOS[name](tiny_store, SECONDS[name])
    assert not report.faults, report.show(name)

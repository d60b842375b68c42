"""The failures of ``make chaos``, shortened."""

from pathlib import Path

import pytest

from tests.chaos.failures import SCENARIOS
from tests.stores import publish_tiny

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
def test_no_promise_breaks(tmp_path: Path, name: str) -> None:
    publish_tiny(tmp_path)
    report = SCENARIOS[name](tmp_path, SECONDS[name])
    assert not report.faults, report.show(name)

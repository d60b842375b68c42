"""The Open Inference Protocol under killed engines, shortened."""

from pathlib import Path

import pytest

from tests.chaos.protocol import kill_engine
from tests.stores import publish_tiny

pytestmark = pytest.mark.slow


def test_no_request_fails_where_engines_are_killed(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    report = kill_engine(tmp_path, 6)
    assert not report.faults, report.show("v2-kill-engine")

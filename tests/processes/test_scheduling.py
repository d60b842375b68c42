"""The service's processes do not take processors from each other for every single image."""

import os
import sys

import pytest

from gsop.processes.scheduling import DECODER_NICENESS
from tests.support import Server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="a policy of Linux"),
]


def test_fronts_decoders_and_engines_let_work_gather(digits_server: Server) -> None:
    policies: dict[str, list[tuple[int, int]]] = {}
    for pid, name in digits_server.descendants().items():
        niceness = os.getpriority(os.PRIO_PROCESS, pid) - os.getpriority(os.PRIO_PROCESS, 0)
        policies.setdefault(name, []).append((os.sched_getscheduler(pid), niceness))
    assert set(policies["gsop-front-0"]) == {(os.SCHED_BATCH, 0)}
    assert set(policies["gsop-engine-0"]) == {(os.SCHED_BATCH, 0)}
    assert set(policies["gsop-decoder"]) == {(os.SCHED_BATCH, DECODER_NICENESS)}
    assert len(policies["gsop-decoder"]) >= 2

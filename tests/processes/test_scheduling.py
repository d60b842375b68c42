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
    for pid, command in digits_server.descendants().items():
        role = next(
            (
                r
                for r in ("gsop.api.http.front", "gsop.serving.decoder", "gsop.engine")
                if r in command
            ),
            "",
        )
        niceness = os.getpriority(os.PRIO_PROCESS, pid) - os.getpriority(os.PRIO_PROCESS, 0)
        policies.setdefault(role, []).append((os.sched_getscheduler(pid), niceness))
    assert set(policies["gsop.api.http.front"]) == {(os.SCHED_BATCH, 0)}
    # Of decoders and engines the first is the nursery, which has nothing to do under load.
    assert (os.SCHED_BATCH, 0) in policies["gsop.engine"]
    assert policies["gsop.serving.decoder"].count((os.SCHED_BATCH, DECODER_NICENESS)) >= 2

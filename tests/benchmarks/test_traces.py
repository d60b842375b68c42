"""What traces cost: the parts that need no server."""

import http.client
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from benchmarks.servers import ROLES, Server, ours
from benchmarks.traces import Cost, collector, nobody


def post(url: str) -> int:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("POST", "/v1/traces", b"spans")
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_collector_answers_after_its_delay_and_nobody_does_not() -> None:
    with collector(0.2) as url:
        began = time.monotonic()
        assert post(url) == 200
        assert time.monotonic() - began >= 0.2
    with nobody() as url, pytest.raises(ConnectionRefusedError):
        post(url)


def test_a_cost_is_the_fronts_above_the_others_of_the_same_round(tmp_path: Path) -> None:
    one, other = (Cost(name, Server(ours(), "null", tmp_path, b"")) for name in ("all", "none"))
    one.roles = [dict.fromkeys(ROLES, us) for us in (300.0, 500.0)]
    other.roles = [dict.fromkeys(ROLES, us) for us in (100.0, 400.0)]
    assert one.above(other) == [200.0, 100.0]

import pytest

from benchmarks import dispatch


def test_both_ways_come_to_the_endpoint_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "CALLS", 20)
    found = dispatch.measure(rounds=2)
    assert set(found) == {"plain route", "FastAPI's route"}
    assert min(found.values()) > 0

"""The benchmark runs: briefly, against the real service."""

import shutil
from pathlib import Path

import pytest

from benchmarks import bodies, idle, models, profile, serve
from benchmarks.in_process import Memories
from benchmarks.processes import members
from benchmarks.servers import Server, ours


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk (apt-get install wrk)")
def test_a_short_run_measures_the_null_model(capsys: pytest.CaptureFixture[str]) -> None:
    rounds = serve.main(["--model", "null", "--rounds", "1", "--seconds", "1"])
    (seen,) = rounds["gsop"]
    assert seen.errors == 0
    assert seen.rate > 0
    assert 0 < seen.p50_ms <= seen.p90_ms <= seen.p99_ms
    assert seen.cpu_ms > 0
    assert seen.memory_mb > 0
    assert seen.batch is not None
    assert seen.batch >= 1
    assert "| gsop |" in capsys.readouterr().out


@pytest.mark.slow
def test_a_server_answers_is_metered_and_leaves_nothing_behind(tmp_path: Path) -> None:
    models.publish_models(tmp_path)
    with Server(ours(), "null", tmp_path, bodies.jpeg("small")) as server:
        meter = server.cpu()
        assert [server.ask()[0] for _ in range(50)] == [200] * 50
        assert meter.seconds() > 0
        assert server.memory_bytes() > 2**20
        root, mark = server.pid, server.mark
        assert len(members(root, mark)) >= 3  # supervisor, front, engine
    assert not members(root, mark)


@pytest.mark.slow
def test_an_idle_server_is_measured_from_start_to_answer(tmp_path: Path) -> None:
    models.publish_models(tmp_path)
    seen = idle.measure("null", tmp_path, bodies.jpeg("small"), requests=5)
    assert seen["ready, s"] > 0
    assert seen["front, MB resident"] > 10
    assert seen["fronts with torch"] == 0
    assert 0 < seen["engine, ms"] < seen["request, ms"]
    assert 0 < seen["overhead, ms"] <= seen["overhead p99, ms"]


def test_a_server_that_ends_by_itself_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no-such-model"):
        Server(ours(), "no-such-model", tmp_path, b"").__enter__()


@pytest.mark.slow
def test_the_parts_of_a_request_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "CALLS", 3)
    models.publish_models(tmp_path)
    body, memories = bodies.jpeg("small"), Memories.of(tmp_path)
    decoding = profile.decoding(body)
    assert 0 < decoding["decode: JPEG to pixels"] < decoding["decode: all"]
    ways = profile.front(memories, body)
    assert set(ways) == {"front: application"}
    assert min(ways.values()) > 0
    shares = list(profile.engine(memories).values())
    assert shares == sorted(shares, reverse=True)  # the larger the batch, the less an image costs

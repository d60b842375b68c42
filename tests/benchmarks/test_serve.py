"""The benchmark runs: briefly, against the real service."""

import shutil
from pathlib import Path

import pytest

from benchmarks import bodies, models, serve
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
        root, mark = server._process.pid, server._mark
        assert len(members(root, mark)) >= 3  # supervisor, front, engine
    assert not members(root, mark)


def test_a_server_that_ends_by_itself_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no-such-model"):
        Server(ours(), "no-such-model", tmp_path, b"").__enter__()

"""The engine's benchmarks run: briefly, on small networks."""

import pytest

from benchmarks import forward


def test_a_way_names_a_backend_and_a_precision() -> None:
    assert forward.parts("openvino-bfloat16") == ("openvino", "bfloat16")
    assert forward.parts("torch") == ("torch", "float32")


@pytest.mark.slow
def test_the_raw_loop_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    found = forward.main(["--model", "digits", "--batches", "1", "2", "--rounds", "1"])
    assert set(found["seconds"]) == {1, 2}
    for seconds in found["seconds"].values():
        assert set(seconds) == {"eager", "torch"}
        assert min(*seconds["eager"], *seconds["torch"]) > 0
    assert "| batch | eager ms |" in capsys.readouterr().out

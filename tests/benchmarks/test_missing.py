"""What a benchmark needs and is not there is named, with how to get it."""

import importlib.util

import pytest

from benchmarks import int8, scaling


@pytest.fixture(autouse=True)
def _nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def test_int8_names_nncf(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["int8", "--model", "digits"])
    with pytest.raises(SystemExit) as ended:
        int8.main()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "NNCF is not installed: pip install -c constraints.txt '.[benchmarks]'" in told


def test_scaling_names_scikit_image_and_gives_no_figure_of_two() -> None:
    with pytest.raises(ImportError, match=r"eight .*: pip install .*'\.\[benchmarks\]'"):
        scaling.photographs()

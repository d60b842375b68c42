"""The bar of a training, as a terminal of 80 columns shows it."""

from pathlib import Path

import pytest

from gsop.train.log import Log
from gsop.train.presets import PRESETS

COLUMNS = ("step", "images_per_second", "loss", "waiting")


def bar(folder: Path, capfd: pytest.CaptureFixture[str], row: dict[str, float]) -> str:
    recipe = PRESETS["imagenet-net2"]
    with Log(folder, COLUMNS, step=0, total=450_000, recipe=recipe, progress=True) as log:
        if row:
            log.write(row)
    return capfd.readouterr().err


def test_the_count_is_whole_in_80_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    row = {"step": 123_456, "images_per_second": 1234.5, "loss": 6.9087, "waiting": 0.13}
    told = bar(tmp_path, capfd, row)
    assert "123456/450000" in told
    assert "loss 6.909, 13% waiting, left" in told


def test_before_the_first_step_no_number_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    told = bar(tmp_path, capfd, {})
    assert "0/450000" in told
    assert "loss" not in told
    assert "nan" not in told

"""What a rate needs, of figures that are known."""

import json
import math
from pathlib import Path

import pytest

from gsop.__main__ import main
from gsop.commands.sizing import (
    LONGEST,
    Figures,
    Sizing,
    erlang_c,
    image_mean,
    image_p99,
    poisson_p99,
)
from gsop.errors import SetupError
from gsop.settings import Settings
from tests.support import random_pngs

FIGURES = Figures(
    model="some/1",
    device="cpu, float32",
    computes_on_cores=True,
    machine="made",
    engine_cores=1,
    image_bytes=50_000,
    image_seconds=0.001,
    batches={1: (0.003,) * 3, 16: (0.018,) * 3},  # 2 ms and 1 ms an image
)


def test_erlangs_formulas_are_as_in_tables() -> None:
    assert erlang_c(1, 0.5) == pytest.approx(0.5)
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)
    assert erlang_c(10, 8.0) == pytest.approx(0.4092, abs=1e-4)
    assert erlang_c(3, 3.0) == 1.0
    # One server: what an M/M/1 queue is known to do.
    assert image_mean(500, 0.001, 1) == pytest.approx(0.001 / (1 - 0.5))
    wait = math.log(0.5 / 0.01) * 0.001 / 0.5
    assert image_p99(500, 0.001, 1) == pytest.approx(wait + LONGEST * 0.001)
    assert image_p99(1000, 0.001, 1) == math.inf


@pytest.mark.parametrize(
    ("mean", "expected"), [(0.001, 0), (0.1, 1), (1, 4), (20, 31), (1000, 1074)]
)
def test_a_poisson_distributions_percentile(mean: float, expected: int) -> None:
    assert poisson_p99(mean) == expected


def test_batches_grow_with_the_rate_and_the_device_is_busy_by_then() -> None:
    sizing = Sizing(FIGURES, p99=0.1, share=0.7)
    idle, half, full = (sizing.engine(rate) for rate in (1, 300, 800))
    assert idle.images == 1
    assert idle.busy == pytest.approx(0.003)
    assert idle.p99 == pytest.approx(0.003)
    assert 1 <= half.images < full.images == pytest.approx(800 * (0.002 + 0.001 * 8), rel=0.3)
    assert full.busy > half.busy
    assert 0.018 < full.p99 <= 2 * 0.018


def test_more_is_needed_for_more_and_for_less_time() -> None:
    needs = [Sizing(FIGURES, p99=0.1, share=0.7).need(rate) for rate in (1, 100, 10_000)]
    assert [need.instances for need in needs] == [2, 2, 18]  # 0.7 of 889 a second each, and one
    assert needs[0].slots == 32
    assert needs[2].image_cores == 1
    assert needs[2].cores == 18 * 2
    assert all(need.p99 <= 0.1 for need in needs)
    one = Sizing(FIGURES, p99=0.1, share=0.7).most()
    assert one.rate == pytest.approx(0.7 * 16 / 0.018)
    assert one.in_use == pytest.approx(one.rate * 0.015, rel=0.5)  # Little's law
    sooner = Sizing(FIGURES, p99=0.012, share=0.7).need(10_000)
    assert sooner.p99 <= 0.012
    assert sooner.cores > needs[2].cores


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--measure IMAGE"),
        (["--figures", "none.json"], "none.json cannot be read: No such file"),
        (["--figures", "wrong.json"], "engine_cores"),
        (["--figures", "f.json", "--p99", "5"], "no number of machines answers within 5 ms"),
        (["--figures", "f.json", "--share", "0.9"], "--share 0.9"),
        (["--figures", "f.json", "--rate", "0"], "--rate"),
        (["--figures", "f.json", "--output", "o.json"], "measures nothing"),
        (["--figures", "f.json", "--rate", "1e12"], "more than 1000000 devices"),
        (["--measure", "none.jpg"], "none.jpg cannot be read"),
    ],
)
def test_what_makes_no_sense_is_told(
    arguments: list[str],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("f.json").write_text(FIGURES.model_dump_json())
    Path("wrong.json").write_text(FIGURES.model_dump_json(exclude={"engine_cores"}))
    assert main(["size", *arguments]) == 1
    assert text in capsys.readouterr().err


def test_costs_are_of_cores_and_devices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures"
    arguments = ["size", "--figures", str(file), "--rate", "10000", "--core-price", "0.04"]
    file.write_text(FIGURES.model_dump_json())
    assert main([*arguments, "--json"]) == 0
    (need,) = json.loads(capsys.readouterr().out)
    assert need["hour"] == pytest.approx(36 * 0.04)
    assert need["million"] == pytest.approx(36 * 0.04 / 36)
    file.write_text(FIGURES.model_copy(update={"computes_on_cores": False}).model_dump_json())
    assert main([*arguments, "--device-price", "1"]) == 0
    told = capsys.readouterr().out
    assert "some/1 on cpu, float32: 1.00 ms of a core" in told
    assert f"{36 * 0.04 + 18:.2f}" in told


@pytest.mark.slow
def test_it_measures_this_machine(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gsop.commands.measuring import measure  # it imports torch

    monkeypatch.setattr("gsop.commands.measuring.WARM_UP_SECONDS", 0.2)
    monkeypatch.setattr("gsop.commands.measuring.LOAD_SECONDS", 0.5)
    monkeypatch.setattr("gsop.commands.measuring.BATCH_SECONDS", 0.01)
    image = tmp_path / "image.png"
    (body,) = random_pngs(1)
    image.write_bytes(body)
    settings = Settings.load(model_store=tiny_store, device="cpu", max_batch=4, torch_threads=1)
    found = measure(settings, "tiny", image)
    assert found.model == "tiny/1"
    assert found.device == "cpu, float32"
    assert sorted(found.batches) == [1, 2, 4]
    assert found.engine_cores == 1
    assert found.image_bytes == len(body)
    assert 0 < found.image_seconds < 1
    assert Figures.model_validate_json(found.model_dump_json()) == found
    image.write_bytes(b"none")
    with pytest.raises(SetupError, match="refused the image: The bytes are no JPEG"):
        measure(settings, "tiny", image)

"""The learning-rate range test: what it suggests, and that it changes nothing."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gsop.__main__ import main
from gsop.errors import ConfigError
from gsop.model.resnet import GSoPResNet
from gsop.train.range_test import judged, range_test, smooth
from gsop.train.recipe import Recipe

RATES = np.geomspace(1e-6, 10, 100)


def valley(rate: float) -> float:
    """A loss that falls most at 1e-3 and grows from 1e-1 on."""
    at = math.log10(rate)
    return 2 - 1.5 / (1 + math.exp(-4 * (at + 3))) + math.exp(6 * (at + 0.7))


def test_the_rate_is_where_the_loss_falls_fastest() -> None:
    found = judged(RATES.tolist(), [valley(rate) for rate in RATES])
    assert 1e-3 < found.steepest < 1e-2  # the average lags behind
    assert 0.05 < found.bound < 0.5
    assert found.suggestion == pytest.approx(min(found.steepest, found.bound / 10), rel=0.1)


def test_it_stays_well_below_where_the_loss_grows() -> None:
    losses = [2.0 - 0.01 * n for n in range(90)] + [1.1 + n for n in range(10)]
    found = judged(RATES.tolist(), losses)
    assert found.suggestion <= found.bound / 9


@pytest.mark.parametrize("losses", [[1.0 + n for n in range(100)], [1.0, 0.9, math.nan, 0.1]])
def test_nothing_is_suggested_where_nothing_is_learnt(losses: list[float]) -> None:
    with pytest.raises(ConfigError, match="falls at no learning rate"):
        judged(RATES[: len(losses)].tolist(), losses)


def test_an_average_begins_at_the_first_loss() -> None:
    assert smooth([3.0, 3.0, 3.0]) == pytest.approx([3.0, 3.0, 3.0])


def test_weights_and_generators_stay_as_they_were(recipe: Recipe) -> None:
    initial = GSoPResNet(recipe.config)
    before = {key: tensor.clone() for key, tensor in initial.state_dict().items()}
    random = torch.get_rng_state()
    begun = recipe.model_copy(update={"backbone": "some.pth"})
    found = range_test(begun, initial=initial, device="cpu", steps=40)
    assert all(torch.equal(before[key], tensor) for key, tensor in initial.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert found.rates[0] == pytest.approx(1e-6)
    assert 1e-5 < found.suggestion < 1


def test_the_command_draws_what_it_saw(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "toy.json", tmp_path / "lr"
    file.write_text(recipe.model_dump_json(), encoding="utf-8")
    command = ["train", "--recipe", str(file), "--device", "cpu", "--output", str(out), "--find-lr"]
    assert main(command) == 0
    told = capsys.readouterr().out
    numbers = json.loads((out / "lr.json").read_text())
    assert f"suggested learning rate: {numbers['suggestion']:.1e} (the recipe's is 5.0e-03)" in told
    assert len(numbers["rates"]) == len(numbers["smoothed"])
    with Image.open(out / "lr.png") as picture:
        assert picture.width > 500
    assert sorted(path.name for path in out.iterdir()) == ["lr.json", "lr.png"]
    assert main([*command, "--resume", str(out)]) == 1
    assert "leave --resume or --find-lr out" in capsys.readouterr().err

"""All that a checkpoint holds."""

import copy
import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning_fabric import Fabric
from torch.nn import functional as F

from gsop.errors import ConfigError, SetupError
from gsop.model.resnet import GSoPResNet
from gsop.train.data.loader import loader
from gsop.train.evaluate import normalise
from gsop.train.fabric import make_fabric
from gsop.train.loop import train
from gsop.train.optimizer import make_optimizer, set_learning_rate
from gsop.train.recipe import Recipe, Schedule
from gsop.train.run import DataInfo, Run
from gsop.train.state import State, begin
from gsop.train.step import take_step, update_average

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _own_generator() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


def after_a_step(fabric: Fabric, recipe: Recipe) -> State:
    """A state of which nothing is any more as it was in the beginning."""
    state = begin(fabric, recipe, None)
    assert state.average is not None
    loaded = loader(recipe.open_data(), batch_size=16, seed=0, steps=1, workers=0)
    take_step(fabric, recipe, state.network, state.optimizer, list(loaded), state.meter)
    update_average(state.average, state.model, decay=recipe.ema_decay, step=1)
    state.step = 3
    state.meter.seconds, state.meter.waiting = 1.5, 0.5
    state.totals.seconds, state.totals.waiting, state.totals.broken = 9.0, 1.0, {"b", "a"}
    state.totals.loss, state.totals.top1, state.totals.held_out_loss = 0.7, 0.9, 0.4
    state.totals.best_step, state.totals.best_loss, state.totals.best_top1 = 2, 0.3, 0.8
    state.totals.looks_since_best = 1
    torch.rand(7)
    return state


def bits(value: Any) -> Any:
    """A checkpoint's contents in values that are equal if every bit is."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: bits(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [bits(inner) for inner in value]
    return repr(value)  # nan is none other


def test_a_run_begins_with_its_seed(recipe: Recipe) -> None:
    fabric = make_fabric(recipe, "cpu")
    one, other = (begin(fabric, recipe, None) for _ in range(2))
    assert bits(one.contents(CPU)) == bits(other.contents(CPU))
    third = begin(fabric, recipe.model_copy(update={"seed": 1}), None)
    assert bits(one.contents(CPU)["model"]) != bits(third.contents(CPU)["model"])
    assert one.model.training
    assert one.kept is one.average is not None
    assert not one.average.training


def test_without_an_average_the_last_weights_are_kept(recipe: Recipe) -> None:
    recipe = recipe.model_copy(update={"ema_decay": 0.0})
    state = begin(make_fabric(recipe, "cpu"), recipe, None)
    assert state.average is None
    assert state.kept is state.model


def test_a_run_begins_with_the_weights_that_it_is_given(recipe: Recipe) -> None:
    fabric = make_fabric(recipe, "cpu")
    recipe = recipe.model_copy(update={"backbone": "torchvision"})
    initial = GSoPResNet(recipe.config)
    assert begin(fabric, recipe, initial).model is initial
    with pytest.raises(ConfigError, match="starts from 'torchvision', which was not loaded"):
        begin(fabric, recipe, None)


def test_all_comes_back_from_a_checkpoint(recipe: Recipe) -> None:
    fabric = make_fabric(recipe, "cpu")
    state = after_a_step(fabric, recipe)
    file = io.BytesIO()
    torch.save(state.contents(CPU), file)
    expected = bits(state.contents(CPU))
    random = torch.rand(3)

    file.seek(0)
    again = begin(fabric, recipe.model_copy(update={"seed": 1}), None)
    again.restore(torch.load(file, weights_only=True), CPU)
    assert again.step == 3
    assert again.totals == state.totals
    assert bits(again.contents(CPU)) == expected
    assert torch.equal(torch.rand(3), random)
    learning = zip(again.network.parameters(), state.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in learning)


def test_only_the_first_process_writes_a_checkpoint(recipe: Recipe, tmp_path: Path) -> None:
    fabric = make_fabric(recipe, "cpu")
    state = after_a_step(fabric, recipe)
    state.save(cast(Fabric, SimpleNamespace(is_global_zero=False)), tmp_path, print)
    assert not list(tmp_path.iterdir())
    state.save(fabric, tmp_path, print)
    assert [file.name for file in tmp_path.iterdir()] == ["step-000000003.pt"]


def test_a_state_that_leads_nowhere_is_not_kept(recipe: Recipe, tmp_path: Path) -> None:
    fabric = make_fabric(recipe, "cpu")
    state = after_a_step(fabric, recipe)
    state.meter.loss.fill_(math.nan)
    with pytest.raises(SetupError, match="the loss is nan at step 3"):
        state.save(fabric, tmp_path, print)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_cannot_be_written_is_told(recipe: Recipe, tmp_path: Path) -> None:
    fabric = make_fabric(recipe, "cpu")
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    said: list[str] = []
    after_a_step(fabric, recipe).save(fabric, tmp_path / "checkpoints", said.append)
    (line,) = said
    assert line.startswith("the checkpoint after step 3 was not written (")
    assert "make room; the training goes on, and the older checkpoints are kept" in line


def one_step_by_hand(recipe: Recipe) -> dict[str, Any]:
    """What a checkpoint after the first step has held since there are checkpoints."""
    data = recipe.open_data()
    torch.manual_seed(recipe.seed)
    model = GSoPResNet(recipe.config).train()
    average = copy.deepcopy(model)
    random = torch.get_rng_state()
    optimizer = make_optimizer(model, recipe.optimizer)
    set_learning_rate(optimizer, recipe, 0, len(data) // recipe.batch_size)
    first = next(iter(loader(data, batch_size=16, seed=recipe.seed, steps=1, workers=0)))
    logits = model(normalise(first.pixels, recipe.input)).logits
    loss = F.cross_entropy(logits, first.labels)
    torch.autograd.backward(loss)
    optimizer.step()
    for mean, weight in zip(
        average.state_dict().values(), model.state_dict().values(), strict=True
    ):
        mean.copy_(weight if not weight.is_floating_point() else mean.lerp(weight, 1 - 1 / 10))
    return {
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "totals": {
            "step": 1,
            "seconds": 100.0,
            "waiting": 10.0,
            "loss": float("nan"),
            "top1": float("nan"),
            "broken": ["dark/gone.png"],
        },
        "meter": {
            "loss": loss.detach(),
            "correct": (logits.argmax(dim=1) == first.labels).sum().float(),
            "images": 16,
            "parts": 1,
            "seconds": 0.5,
            "waiting": 0.25,
        },
        "random": {"cpu": random, "cuda": None},
    }


def rows(folder: Path, *columns: str) -> list[list[str]]:
    with (folder / "log.csv").open(encoding="utf-8") as stream:
        return [[row[column] for column in columns] for row in csv.DictReader(stream)]


def test_a_run_goes_on_from_a_checkpoint_in_the_layout_of_the_first_ones(
    recipe: Recipe, tmp_path: Path
) -> None:
    schedule = Schedule(steps=6, warmup=3, validate_every=0)
    recipe = recipe.model_copy(update={"schedule": schedule, "log_every": 3})
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train(recipe, whole, device="cpu", progress=False)

    run = Run.create(resumed, recipe, DataInfo.of(recipe.open_data()))
    run.checkpoints.mkdir()
    torch.save(one_step_by_hand(recipe), run.checkpoints / "step-000000001.pt")
    result = train(recipe, resumed, resume=True, device="cpu", progress=False)

    weights = [(folder / "model.safetensors").read_bytes() for folder in (whole, resumed)]
    assert weights[0] == weights[1]
    # The first row is of three steps, of which the checkpoint's meter has one.
    columns = ("step", "loss", "accuracy", "images", "layer4.1.channel.mean")
    assert rows(resumed, *columns) == rows(whole, *columns)
    assert result.seconds > 100
    assert result.broken == ("dark/gone.png",)

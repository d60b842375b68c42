"""All that a checkpoint holds."""

import copy
import csv
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from gsop.model.resnet import GSoPResNet
from gsop.train.data.loader import loader
from gsop.train.evaluate import normalise
from gsop.train.loop import train
from gsop.train.optimizer import make_optimizer, set_learning_rate
from gsop.train.recipe import Recipe, Schedule
from gsop.train.run import DataInfo, Run


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

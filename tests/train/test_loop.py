from dataclasses import replace
from pathlib import Path

import pytest
import torch

from app.errors import SetupError, StoreError
from app.model.resnet import GSoPResNet
from app.store.store import load
from app.train.data import DataSet
from app.train.loop import fit, train
from app.train.recipe import DIGITS, Recipe

CPU = torch.device("cpu")


def fitted(recipe: Recipe, seed: int) -> GSoPResNet:
    return fit(recipe, recipe.data(), seed=seed, device=CPU, progress=False)


def same(one: GSoPResNet, other: GSoPResNet) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_training_learns_and_publishes(recipe: Recipe, tmp_path: Path) -> None:
    folder = train(recipe, store=tmp_path, name="toy", version="1", seed=3, progress=False)
    manifest, _ = load(folder)
    assert folder == tmp_path / "toy" / "1"
    assert manifest.metrics["top1"] == 1.0
    assert manifest.metrics["robustness"] == {"swapped": {"top1": 0.0, "samples": 6}}
    assert manifest.labels == ("dark", "light")
    assert manifest.input == recipe.input
    assert manifest.provenance["recipe"] == "dark-and-light"
    assert manifest.provenance["seed"] == 3
    assert manifest.provenance["data"] == {"dataset": "dark and light"}


def test_the_seed_alone_decides(recipe: Recipe) -> None:
    recipe = replace(recipe, steps=3)
    state = torch.random.get_rng_state()
    first = fitted(recipe, seed=1)
    torch.rand(1)
    assert same(first, fitted(recipe, seed=1))
    assert not same(first, fitted(recipe, seed=2))
    torch.random.set_rng_state(state)


def test_training_leaves_the_global_generator_alone(recipe: Recipe) -> None:
    before = torch.random.get_rng_state()
    fitted(replace(recipe, steps=1), seed=1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_an_existing_version_is_refused_before_the_training(recipe: Recipe, tmp_path: Path) -> None:
    def no_data() -> DataSet:
        raise AssertionError("the training began")

    (tmp_path / "toy" / "1").mkdir(parents=True)
    with pytest.raises(StoreError, match="publish under a new version"):
        train(
            replace(recipe, data=no_data),
            store=tmp_path,
            name="toy",
            version="1",
            progress=False,
        )


def test_a_training_that_diverges_says_what_to_do(recipe: Recipe) -> None:
    diverging = replace(recipe, learning_rate=1e30, weight_decay=0.0, warmup_steps=0)
    with pytest.raises(SetupError, match=r"the loss is \w+ at step \d+: lower the recipe's"):
        fitted(diverging, seed=0)


def test_progress_is_drawn_only_if_wanted(
    recipe: Recipe, capfd: pytest.CaptureFixture[str]
) -> None:
    short = replace(recipe, steps=2)
    fit(short, short.data(), seed=0, device=CPU, progress=False)
    assert capfd.readouterr() == ("", "")
    fit(short, short.data(), seed=0, device=CPU, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "dark-and-light" in err
    assert "2/2" in err
    assert "images/s" in err


@pytest.mark.slow
def test_the_digits_are_trained_and_published(tmp_path: Path) -> None:
    folder = train(
        replace(DIGITS, steps=2), store=tmp_path, name="digits", version="7", progress=False
    )
    manifest, model = load(folder)
    assert manifest.metrics["samples"] == 364
    assert 0 <= manifest.metrics["top1"] <= 1
    assert "pen strokes" in manifest.metrics["robustness"]
    assert manifest.provenance["data"]["licence"] == "CC BY 4.0"
    assert model(torch.zeros(1, 3, 32, 32)).logits.shape == (1, 10)

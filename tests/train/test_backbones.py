"""Trainings that start from files of torchvision's, timm's and Hugging Face's."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gsop.__main__ import main
from gsop.model.official import official_key
from gsop.model.resnet import GSoPResNet
from gsop.train.recipe import Recipe
from gsop.train.run import Run
from tests.model.test_foreign_names import transformers_name


@pytest.mark.parametrize(
    ("file", "name_of"),
    [("torchvision.pth", str), ("timm.safetensors", str), ("hub.safetensors", transformers_name)],
)
def test_a_training_starts_from_a_file_of_others(
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    name_of: Callable[[str], str],
) -> None:
    recipe_file = tmp_path / "toy.json"
    recipe_file.write_text(recipe.model_dump_json(), encoding="utf-8")
    plain = GSoPResNet(replace(recipe.config, attention="none", num_classes=7))
    theirs = {name_of(official_key(key)): tensor for key, tensor in plain.state_dict().items()}
    save: Callable[..., None] = torch.save if file.endswith(".pth") else save_file
    save(theirs, tmp_path / file)
    monkeypatch.chdir(tmp_path)
    train = ["train", "--recipe", str(recipe_file), "--device", "cpu", "--quiet", "--output", "run"]
    still = ["--set", "schedule.steps=4", "--learning-rate", "1e-12"]
    assert main([*train, *still, "--backbone", file]) == 0
    run = Run(tmp_path / "run")
    assert run.recipe.backbone == str(tmp_path / file)
    kept, given = run.load_model().state_dict(), plain.state_dict()
    weights = {key for key in given if key.endswith("conv1.weight")}
    assert len(weights) >= 8
    assert all(torch.allclose(kept[key], given[key]) for key in weights)

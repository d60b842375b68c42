"""What processes know together."""

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric

from gsop.backends.gpus import VISIBLE
from gsop.train import fabric as fabrics
from gsop.train.fabric import largest_of_all, make_fabric, sum_of_all, union_of_all
from gsop.train.recipe import Recipe
from tests.train.conftest import in_two_processes


def together(fabric: Fabric, recipe: Recipe) -> tuple[float, float, list[str]]:
    mine = fabric.global_rank
    return (
        sum_of_all(fabric, 1.5 + mine),
        largest_of_all(fabric, 15 * mine),
        sorted(union_of_all(fabric, {"both", f"only {mine}"})),
    )


def test_one_process_knows_what_it_knows(recipe: Recipe) -> None:
    assert together(make_fabric(recipe, "cpu"), recipe) == (1.5, 0, ["both", "only 0"])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What Fabric is made with, on a machine that has a GPU; and torch's switches as they were."""
    cudnn, matmul, made = torch.backends.cudnn, torch.backends.cuda.matmul, dict[str, Any]()
    kept = cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark

    def fabric(**options: Any) -> Any:
        made.update(options)
        return SimpleNamespace(launch=lambda: None)

    def find_device(name: str, called: str = "") -> torch.device:
        made["found"] = (name, called)
        return torch.device(name)

    monkeypatch.setattr(fabrics, "Fabric", fabric)
    monkeypatch.setattr(fabrics, "find_device", find_device)
    yield made
    cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark = kept


def test_float32_is_float32_in_training_too(recipe: Recipe, asked: dict[str, Any]) -> None:
    """Of what a network is trained in, and of what it is measured in on the way."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    cudnn.allow_tf32 = matmul.allow_tf32 = True
    cudnn.benchmark = False
    make_fabric(recipe.model_copy(update={"precision": "float32"}), "cuda:1")
    assert (cudnn.allow_tf32, matmul.allow_tf32) == (False, False)
    assert cudnn.benchmark, "steps are of one size"
    assert (asked["accelerator"], asked["devices"], asked["precision"]) == ("cuda", [1], "32-true")


def test_a_gpu_may_be_named_by_its_uuid(
    recipe: Recipe, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VISIBLE, "0,1")
    make_fabric(recipe, "MIG-8f0c-22")
    assert asked["found"] == ("cuda", "MIG-8f0c-22")
    assert os.environ[VISIBLE] == "MIG-8f0c-22"
    make_fabric(recipe, "cuda:1")
    assert asked["found"] == ("cuda:1", "cuda:1")


@pytest.mark.slow
def test_two_processes_know_the_same(recipe: Recipe) -> None:
    expected = (4.0, 15, ["both", "only 0", "only 1"])
    assert in_two_processes(recipe, together) == [expected, expected]

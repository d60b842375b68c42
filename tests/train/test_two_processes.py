"""What goes wrong in one of two processes ends both, with the same error."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric

from gsop.errors import SetupError
from gsop.train import checkpoint, loop
from gsop.train.data.loader import Part
from gsop.train.loop import train
from gsop.train.recipe import Recipe, Schedule
from gsop.train.state import State, begin
from gsop.train.step import take_step
from gsop.train.watch import check_everywhere
from tests.train.conftest import changed, in_two_processes

pytestmark = pytest.mark.slow


def stepped(fabric: Fabric, recipe: Recipe, *, spoilt: bool) -> State:
    """After one step, in which one process's gradients may not be finite, though its loss is."""
    state = begin(fabric, recipe, None)
    if spoilt and fabric.global_rank == 1:
        next(state.model.parameters()).register_hook(lambda gradient: gradient * math.inf)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    pixels = torch.randint(0, 256, (4, 16, 16, 3), dtype=torch.uint8)
    parts = [Part(pixels, torch.tensor([0, 1, 0, 1]), ())]
    take_step(fabric, recipe, state.network, state.optimizer, parts, state.meter)
    state.step = 1
    return state


def saved(fabric: Fabric, recipe: Recipe, folder: Path, *, spoilt: bool) -> str:
    """What became of a checkpoint after that step."""
    state = stepped(fabric, recipe, spoilt=spoilt)
    try:
        check_everywhere(fabric, state.meter, state.step)
    except SetupError as error:
        return str(error)
    state.save(fabric, folder, print)
    fabric.barrier()
    return f"{len(list(folder.iterdir()))} saved"


def after_spoilt_gradients(fabric: Fabric, recipe: Recipe) -> str:
    return saved(fabric, recipe, Path(recipe.name), spoilt=True)


def after_a_good_step(fabric: Fabric, recipe: Recipe) -> str:
    return saved(fabric, recipe, Path(recipe.name), spoilt=False)


def after_a_loss_of_one_process(fabric: Fabric, recipe: Recipe) -> str:
    """The second one's loss is no number, and the first one is to save."""
    state = stepped(fabric, recipe, spoilt=False)
    if fabric.global_rank == 1:
        state.meter.loss.fill_(math.nan)
    try:
        check_everywhere(fabric, state.meter, state.step)
    except SetupError as error:
        return str(error)
    return "none was told"


def bounded(recipe: Recipe, folder: Path) -> Recipe:
    """With gradients that are clipped; its name tells the processes the folder."""
    optimizer = recipe.optimizer.model_copy(update={"clip": 1.0})
    changed: dict[str, Any] = {"optimizer": optimizer, "name": str(folder)}
    return recipe.model_copy(update=changed)


@pytest.mark.parametrize("work", [after_spoilt_gradients, after_a_loss_of_one_process])
def test_each_process_says_what_is_wrong(recipe: Recipe, tmp_path: Path, work: Any) -> None:
    told = in_two_processes(bounded(recipe, tmp_path), work)
    assert told[0] == told[1]
    assert told[0].startswith("the loss is nan at step 1: lower the learning rate")
    assert checkpoint.load(tmp_path) is None


def test_a_run_asks_all_processes_before_one_saves(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the one that saves finds what is wrong, and ends, and the others wait for it."""
    seen: list[str] = []
    monkeypatch.setattr(loop, "check_everywhere", lambda *_: seen.append("asks"))
    monkeypatch.setattr(State, "save", lambda *_: seen.append("saves"))
    schedule = Schedule(steps=4, warmup=1, validate_every=0)
    often = changed(recipe, schedule=schedule, checkpoint_every=2)
    train(often, tmp_path / "run", device="cpu", progress=False)
    assert seen == ["asks", "saves"] * 2


def test_nothing_is_told_where_nothing_is_wrong(recipe: Recipe, tmp_path: Path) -> None:
    assert in_two_processes(bounded(recipe, tmp_path), after_a_good_step) == ["1 saved"] * 2

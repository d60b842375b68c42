"""Training looks after itself: best weights, an early end, and resuming to the same bits."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from gsop.model.resnet import GSoPResNet
from gsop.train import loop
from gsop.train.data.spec import BalanceSpec, DataSpec
from gsop.train.evaluate import Score
from gsop.train.loop import train
from gsop.train.mixing import mixed
from gsop.train.optimizer import freeze, make_optimizer, set_learning_rate
from gsop.train.recipe import MixSpec, OptimizerSpec, Recipe, Schedule
from gsop.train.run import Run
from gsop.train.step import take_step
from gsop.train.watch import Totals
from tests.support import TINY
from tests.train.conftest import changed, stopped_after


def losses(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    """Have the looks at the held-out images find these losses, the last one for ever."""
    left = list(values)

    def look(*_: object) -> Score:
        loss = left.pop(0) if len(left) > 1 else left[0]
        return Score(correct=3, samples=4, loss_sum=4 * loss)

    monkeypatch.setattr(loop, "score_held_out", look)


def test_the_best_weights_are_kept_beside_the_last(
    short: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses(monkeypatch, 0.9, 0.5, 0.7)
    result = train(short, tmp_path / "run", device="cpu", progress=False)
    assert (result.best_step, result.best_loss, result.held_out_loss) == (4, 0.5, 0.7)
    assert not result.ended_early
    best = safetensors.torch.load_file(tmp_path / "run" / "best.safetensors")
    last = safetensors.torch.load_file(tmp_path / "run" / "model.safetensors")
    assert any(not torch.equal(best[key], last[key]) for key in last)
    # Of a run that ends there the best are the last.
    ends_there = changed(short, schedule=Schedule(steps=12, warmup=1, validate_every=2, patience=1))
    losses(monkeypatch, 0.5, 0.7)
    result = train(
        changed(ends_there, keep="best"), tmp_path / "best", device="cpu", progress=False
    )
    assert (result.best_step, result.steps, result.held_out_loss) == (2, 4, 0.5)
    kept = (tmp_path / "best" / "model.safetensors").read_bytes()
    assert kept == (tmp_path / "best" / "best.safetensors").read_bytes()


def test_a_run_ends_when_the_held_out_loss_falls_no_more(
    short: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = changed(short, schedule=Schedule(steps=12, warmup=1, validate_every=2, patience=2))
    losses(monkeypatch, 0.9, 0.5, 0.6, 0.7)
    result = train(patient, tmp_path / "run", device="cpu", progress=False)
    assert (result.steps, result.best_step, result.ended_early) == (8, 4, True)
    assert Run(tmp_path / "run").finished


def test_what_was_stopped_remembers_the_best(
    short: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = changed(short, schedule=Schedule(steps=12, warmup=1, validate_every=2, patience=2))
    losses(monkeypatch, 0.5, 0.6)
    stopped_after(3, patient, tmp_path / "run", monkeypatch)
    losses(monkeypatch, 0.6, 0.7)
    result = train(patient, tmp_path / "run", resume=True, device="cpu", progress=False)
    assert (result.steps, result.best_step, result.best_loss) == (6, 2, 0.5)


@pytest.mark.slow
def test_what_was_stopped_ends_in_the_same_weights_with_every_option(
    short: Recipe, skewed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = changed(
        short,
        data=DataSpec(kind="folder", path=skewed, validation=0.2),
        balance=BalanceSpec(draw=0.5, loss=1),
        mix=MixSpec(mixup=0.4, cutmix=0.4),
        keep="best",
        optimizer=OptimizerSpec(learning_rate=5e-3, stage_decay=0.7, frozen=("stem", "layer1")),
    )
    train(everything, tmp_path / "whole", device="cpu", progress=False)
    stopped_after(5, everything, tmp_path / "parts", monkeypatch)
    train(everything, tmp_path / "parts", resume=True, device="cpu", progress=False)
    for name in ("model.safetensors", "best.safetensors"):
        whole, parts = ((tmp_path / run / name).read_bytes() for run in ("whole", "parts"))
        assert whole == parts, name
    assert json.loads((tmp_path / "parts" / "result.json").read_text())["steps"] == 12


def test_frozen_parts_stay_and_their_gates_learn(recipe: Recipe, tmp_path: Path) -> None:
    frozen = changed(
        recipe,
        schedule=Schedule(steps=3, warmup=0, validate_every=0),
        ema_decay=0.0,
        optimizer=OptimizerSpec(learning_rate=5e-3, frozen=("stem", "layer1")),
    )
    torch.manual_seed(frozen.seed)
    before = {k: t.clone() for k, t in GSoPResNet(frozen.config).state_dict().items()}
    train(frozen, tmp_path / "run", device="cpu", progress=False)
    after = safetensors.torch.load_file(tmp_path / "run" / "model.safetensors")
    same = {key for key in before if torch.equal(before[key], after[key])}
    parts = {key for key in before if key.startswith(("stem.", "layer1."))}
    gates = {key for key in parts if ".gate." in key}
    assert parts - gates <= same
    assert gates - same
    assert not {key for key in same if key.startswith("layer4.") and key.endswith("weight")}


def test_early_stages_learn_slower(recipe: Recipe) -> None:
    spec = OptimizerSpec(learning_rate=1.0, backbone_scale=0.5, stage_decay=0.1)
    slow = changed(recipe, optimizer=spec, schedule=Schedule(steps=10, validate_every=0))
    model = GSoPResNet(slow.config)
    optimizer = make_optimizer(model, spec)
    set_learning_rate(optimizer, slow, 0, 6)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    by_name = {name: rates[id(p)] for name, p in model.named_parameters()}
    layers = ("layer1.0", "layer2.0", "layer3.0", "layer4.0")
    firsts = [next(v for k, v in by_name.items() if k.startswith(name)) for name in layers]
    assert firsts == pytest.approx([0.0005, 0.005, 0.05, 0.5])
    assert {v for k, v in by_name.items() if k.startswith("head.")} == {1.0}


def test_freezing_leaves_running_statistics_of_the_others() -> None:
    model = GSoPResNet(TINY).train()
    freeze(model, ("layer2",))
    norms = {n: m.training for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert not any(t for n, t in norms.items() if n.startswith("layer2.") and ".gate." not in n)
    assert all(t for n, t in norms.items() if not n.startswith("layer2."))


@pytest.mark.parametrize("how", [MixSpec(mixup=1.0), MixSpec(cutmix=1.0)])
def test_labels_are_mixed_as_the_images_are(how: MixSpec) -> None:
    pytest.importorskip("torchvision")
    labels = torch.arange(8) % 4
    images = labels.float().view(8, 1, 1, 1).expand(8, 3, 16, 16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        made, shares = mixed(images, labels, how, 4)
    assert shares.shape == (8, 4)
    assert torch.allclose(shares.sum(dim=1), torch.ones(8))
    # Each image's mean is that of its labels, as they are weighed.
    expected = (shares * torch.arange(4.0)).sum(dim=1)
    assert torch.allclose(made.mean(dim=(1, 2, 3)), expected, atol=1e-5)
    assert not torch.equal(made, images)


def test_nothing_is_mixed_unless_it_is_said() -> None:
    images, labels = torch.zeros(2, 3, 4, 4), torch.tensor([0, 1])
    assert mixed(images, labels, MixSpec(), 2) == (images, labels)


def test_the_first_images_are_shown_before_the_first_step(
    short: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def noted(*arguments: object) -> object:
        seen.append((tmp_path / "run" / "preview.png").exists())
        return take_step(*arguments)  # type: ignore[arg-type]  # those that it is called with

    monkeypatch.setattr(loop, "take_step", noted)
    train(short, tmp_path / "run", device="cpu", progress=False)
    assert all(seen)
    with Image.open(tmp_path / "run" / "preview.png") as picture:
        assert picture.size == (4 * 64, 4 * 32)


def test_older_checkpoints_have_no_best() -> None:
    totals = Totals(seconds=1.0, waiting=0.0, loss=0.5, top1=0.5, broken=set())
    assert totals.add_score(Score(1, 2, (), 1.0), 7)
    assert (totals.best_step, totals.best_loss) == (7, 0.5)
    assert not totals.add_score(Score(1, 2, (), 1.0), 9)
    assert totals.looks_since_best == 1

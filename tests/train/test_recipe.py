import json
import math
from pathlib import Path

import pytest

from gsop.errors import ConfigError
from gsop.train.overrides import find_recipe, override
from gsop.train.presets import DIGITS, IMAGENET_NET1, IMAGENET_NET2, PRESETS
from gsop.train.recipe import Recipe, Schedule, validate


def test_presets_are_found_by_their_names() -> None:
    assert find_recipe("digits") is DIGITS
    assert all(name == recipe.name for name, recipe in PRESETS.items())


@pytest.mark.parametrize("recipe", PRESETS.values(), ids=PRESETS)
def test_a_recipe_is_plain_data(recipe: Recipe) -> None:
    assert validate(json.loads(recipe.model_dump_json()), "it") == recipe


def test_the_rate_rises_and_then_falls_to_nothing() -> None:
    schedule = Schedule(steps=100, warmup=10)
    shares = [schedule.share_at(step, 7) for step in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[:10] == sorted(shares[:10])
    assert shares[9] == shares[10] == max(shares) == 1
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[55] == pytest.approx(0.5)
    assert 0 < shares[-1] < 1e-3


def test_the_published_rate_falls_by_ten_at_the_published_epochs() -> None:
    for recipe, epochs, milestones in (
        (IMAGENET_NET1, 95, (30, 60, 90)),
        (IMAGENET_NET2, 65, (30, 45, 60)),
    ):
        assert recipe.schedule.total_steps(5004) == epochs * 5004
        for epoch in range(epochs):
            share = recipe.schedule.share_at(epoch * 5004, 5004)
            assert share == pytest.approx(0.1 ** sum(epoch >= m for m in milestones))
        assert (recipe.optimizer.learning_rate, recipe.optimizer.momentum) == (0.1, 0.9)
        assert recipe.optimizer.weight_decay == 1e-4
        assert (recipe.input.resize, recipe.input.height) == (256, 224)


def test_gates_open_later_than_the_rest_learns() -> None:
    schedule = Schedule(epochs=10, gate_warmup=2)
    assert schedule.share_at(0, 50, "gates") == pytest.approx(0.01)
    assert schedule.share_at(0, 50, "backbone") == 1
    assert schedule.share_at(150, 50, "gates") == schedule.share_at(150, 50)


def test_values_are_changed_one_by_one() -> None:
    changed = override(
        DIGITS, ["batch_size=32", "config.depth=34", "name=other", "optimizer.clip=1"]
    )
    assert (changed.batch_size, changed.config.depth, changed.name) == (32, 34, "other")
    assert changed.optimizer.clip == 1
    assert changed.schedule == DIGITS.schedule


def test_a_file_changes_a_preset_and_a_whole_recipe_is_one_too(tmp_path: Path) -> None:
    partial = tmp_path / "mine.toml"
    partial.write_text('base = "finetune"\nname = "mine"\n[schedule]\nepochs = 3\n')
    mine = find_recipe(str(partial))
    assert (mine.name, mine.schedule.epochs, mine.schedule.gate_warmup) == ("mine", 3, 3)
    whole = tmp_path / "whole.json"
    whole.write_text(mine.model_dump_json())
    assert find_recipe(str(whole)) == mine


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("batchsize=3", r"has no 'batchsize' \(did you mean 'batch_size'\?\)"),
        ("optimizer.lr=3", "has no 'optimizer.lr'.*in optimizer kind, learning_rate"),
        ("optimizer.learning_rate=-1", "optimizer.learning_rate: .*greater than 0"),
        ("batch_size=many", "batch_size: .*valid integer"),
        ("batch_size", "write KEY=VALUE"),
        ("config.depth=19", "config.depth: Input should be 18, 34"),
        ("schedule.warmup=1000", "leaves nothing of 1000"),
        ("schedule.epochs=3", "either epochs or steps"),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(DIGITS, [assignment])


def test_an_unknown_preset_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no recipe 'digit' \(did you mean 'digits'\?\)"):
        find_recipe("digit")
    file = tmp_path / "r.toml"
    file.write_text('base = "fine-tune"')
    with pytest.raises(ConfigError, match="did you mean 'finetune'"):
        find_recipe(str(file))
    with pytest.raises(ConfigError, match="cannot be read"):
        find_recipe(str(tmp_path / "none.json"))


def test_not_a_number_is_no_value() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.learning_rate"):
        override(DIGITS, [f"optimizer.learning_rate={math.nan}"])

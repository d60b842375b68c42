from dataclasses import replace

import pytest

from app.train.recipe import DIGITS, RECIPES, Recipe


def test_recipes_are_found_by_their_names() -> None:
    assert RECIPES["digits"] is DIGITS
    assert all(name == recipe.name for name, recipe in RECIPES.items())


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_network_has_an_output_for_each_label(recipe: Recipe) -> None:
    assert len(recipe.data().labels) == recipe.config.num_classes


def test_the_learning_rate_rises_and_then_falls_to_nothing() -> None:
    recipe = replace(DIGITS, steps=100, warmup_steps=10, learning_rate=0.1)
    rates = [recipe.learning_rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[:10] == sorted(rates[:10])
    assert rates[9] == rates[10] == max(rates) == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.05)
    assert 0 < rates[-1] < 1e-4

"""What processes know together."""

import pytest
from lightning_fabric import Fabric

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


@pytest.mark.slow
def test_two_processes_know_the_same(recipe: Recipe) -> None:
    expected = (4.0, 15, ["both", "only 0", "only 1"])
    assert in_two_processes(recipe, together) == [expected, expected]

"""What happens after which step."""

import pytest

from gsop.errors import ConfigError
from gsop.train.recipe import Recipe, Schedule
from gsop.train.timetable import Timetable

TIMETABLE = Timetable(
    epoch_steps=6, total_steps=20, validate_every=5, log_every=8, checkpoint_every=7
)
STEPS = range(1, 21)


def test_held_out_images_are_looked_at_on_the_way() -> None:
    assert [step for step in STEPS if TIMETABLE.validates(step)] == [5, 10, 15]


@pytest.mark.parametrize(
    ("held_out", "steps"), [(7, [5, 10, 15, 20]), (8, [10, 20]), (22, [20]), (1000, [20])]
)
def test_looks_without_the_average_cost_little(held_out: int, steps: list[int]) -> None:
    """Of 16 images a step, 80 are trained on between two looks: worth 240 that are looked at."""

    def looks(step: int) -> bool:
        return TIMETABLE.looks_beside(step, held_out=held_out, batch_size=16)

    looked = [step for step in STEPS if TIMETABLE.validates(step) or TIMETABLE.is_last(step)]
    assert [step for step in looked if looks(step)] == steps


def test_the_last_step_has_a_row_and_a_checkpoint() -> None:
    assert [step for step in STEPS if TIMETABLE.logs(step)] == [8, 16, 20]
    assert [step for step in STEPS if TIMETABLE.is_last(step)] == [20]


def test_the_end_of_an_epoch_has_a_checkpoint() -> None:
    assert [step for step in STEPS if TIMETABLE.saves(step)] == [6, 7, 12, 14, 18, 20]


@pytest.mark.parametrize(
    ("schedule", "total", "validate"),
    [
        (Schedule(steps=30, validate_every=4), 30, 4),
        (Schedule(epochs=3, validate_every=0.5), 18, 3),
        (Schedule(epochs=0.01, validate_every=0), 1, 0),
    ],
)
def test_epochs_become_steps(recipe: Recipe, schedule: Schedule, total: int, validate: int) -> None:
    timetable = Timetable.of(recipe.model_copy(update={"schedule": schedule}), recipe.open_data())
    assert timetable == Timetable(
        epoch_steps=6,
        total_steps=total,
        validate_every=validate,
        log_every=recipe.log_every,
        checkpoint_every=recipe.checkpoint_every,
    )
    assert any(timetable.validates(step) for step in range(1, total)) == bool(validate)


def test_a_batch_of_more_than_all_images_is_refused(recipe: Recipe) -> None:
    with pytest.raises(ConfigError, match="a batch of 97 is more than the 96 images"):
        Timetable.of(recipe.model_copy(update={"batch_size": 97}), recipe.open_data())

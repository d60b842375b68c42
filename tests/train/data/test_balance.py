import numpy as np
import pytest
from numpy.typing import NDArray

from gsop.train.data.balance import loss_weights, order_of_epoch
from gsop.train.data.spec import BalanceSpec

LABELS = np.repeat(np.arange(3), (90, 9, 1))
"""Of three classes, ten times fewer from one to the next."""


def shown(draw: float, seed: int = 0) -> NDArray[np.int64]:
    return order_of_epoch(LABELS, draw, np.random.default_rng(seed))


def test_without_balance_each_image_is_shown_once_in_the_order_that_it_had() -> None:
    assert np.array_equal(shown(0), np.random.default_rng(0).permutation(100))


@pytest.mark.parametrize(
    ("draw", "places"), [(0.5, (70, 22, 7)), (1.0, (33, 33, 33))], ids=["half", "whole"]
)
def test_classes_are_drawn_alike_as_far_as_is_asked(draw: float, places: tuple[int, ...]) -> None:
    order = shown(draw)
    assert len(order) == 100
    counts = np.bincount(LABELS[order])
    assert all(0 <= count - least <= 2 for count, least in zip(counts, places, strict=True))
    for label in range(3):  # none of a class more than once more often than another
        of_each = np.bincount(order, minlength=100)[label == LABELS]
        assert np.ptp(of_each) <= 1


def test_of_a_large_class_other_images_are_shown_in_each_pass() -> None:
    seen = {int(image) for seed in range(20) for image in shown(1.0, seed) if image < 90}
    assert len(seen) == 90
    assert np.array_equal(shown(1.0, 3), shown(1.0, 3))


def test_weights_make_up_for_the_skew() -> None:
    weights = loss_weights(LABELS, 4, BalanceSpec(loss=1))
    assert weights is not None
    assert weights[:3] * (90, 9, 1) == pytest.approx(100 / 3)
    assert weights[3] == 0  # no image has that class
    half = loss_weights(LABELS, 3, BalanceSpec(loss=0.5))
    assert half is not None
    assert half[1] / half[0] == pytest.approx(10**0.5)
    assert (half * (90, 9, 1)).sum() == pytest.approx(100)


def test_weights_go_by_what_is_drawn() -> None:
    assert loss_weights(LABELS, 3, BalanceSpec()) is None
    assert loss_weights(LABELS, 3, BalanceSpec(loss=1, draw=1)) is None
    both = loss_weights(LABELS, 3, BalanceSpec(loss=1, draw=0.5))
    assert both is not None
    assert both[1] / both[0] == pytest.approx(10**0.5)

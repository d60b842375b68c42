import numpy as np
import pytest

from gsop.train.report.rates import Paired, Rate, f1_interval


def test_the_interval_is_wilsons() -> None:
    # Newcombe (1998), table I: 81 of 263, and 0 of 20.
    assert Rate(81, 263).interval == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert Rate(0, 20).interval == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert str(Rate(81, 263)) == "30.80% (25.5% to 36.6%)"


def test_of_no_images_nothing_is_known() -> None:
    assert Rate(0, 0).interval == (0.0, 1.0)
    assert Rate(0, 0).facts()["share"] is None
    assert str(Rate(0, 0)) == "-"


@pytest.mark.slow
def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    hits = np.random.default_rng(0).binomial(60, 0.9, 2000)
    held = [low <= 0.9 <= high for low, high in (Rate(int(h), 60).interval for h in hits)]
    assert 0.93 < np.mean(held) < 0.98


def test_f1_has_an_interval_that_narrows_with_images() -> None:
    few, many = f1_interval(9, 1, 1), f1_interval(900, 100, 100)
    assert few[0] < 0.9 < few[1]
    assert many[0] < 0.9 < many[1]
    assert many[1] - many[0] < (few[1] - few[0]) / 3
    assert f1_interval(10, 0, 0)[0] < 1


def test_mcnemar_counts_only_where_the_two_differ() -> None:
    first = np.array([True] * 90 + [True] * 8 + [False] * 2)
    second = np.array([True] * 90 + [False] * 8 + [True] * 2)
    pairs = Paired.of(first, second)
    assert (pairs.both, pairs.first, pairs.second, pairs.neither) == (90, 8, 2, 0)
    assert pairs.difference == pytest.approx(0.06)
    # Two-sided binomial of 2 in 10: 2 · (1 + 10 + 45) / 1024.
    assert pairs.p_value == pytest.approx(112 / 1024)
    assert not pairs.is_more_than_chance
    low, high = pairs.interval
    assert low < 0 < high < 0.13


def test_ten_against_none_is_more_than_chance() -> None:
    assert Paired(both=80, first=10, second=0, neither=10).is_more_than_chance
    assert Paired(both=80, first=0, second=0, neither=20).p_value == 1

import pytest

from gsop.engine.cost import BatchCost


def learned(*seen: tuple[int, float]) -> BatchCost:
    cost = BatchCost()
    for size, seconds in seen:
        cost.learn(size, seconds)
    return cost


def test_it_finds_the_line() -> None:
    cost = learned(*[(n, 0.010 + 0.002 * n) for n in (1, 4, 16, 7, 1)])
    assert cost.image == pytest.approx(0.002)
    assert cost.fixed == pytest.approx(0.010)
    assert cost.expect(10) == pytest.approx(0.030)


def test_a_few_outliers_do_not_move_it() -> None:
    line = [(n, 0.010 + 0.002 * n) for n in (1, 4, 16)] * 5
    cost = learned(*line, (16, 3.0), (1, 1.0), (4, 5.0), (16, 2.0))
    assert cost.expect(8) == pytest.approx(0.026)


def test_it_follows_a_device_that_became_slower() -> None:
    line = [(n, 0.010 + 0.002 * n) for n in (1, 4, 16)] * 20
    cost = learned(*line, *[(n, 2 * seconds) for n, seconds in line])
    assert cost.expect(8) == pytest.approx(0.052)


def test_one_size_alone_is_shared_among_its_images() -> None:
    cost = learned((4, 0.020))
    assert cost.image == pytest.approx(0.005)
    assert cost.fixed == pytest.approx(0)


def test_times_that_fall_with_size_give_no_negative_cost() -> None:
    cost = learned((1, 0.030), (8, 0.020))
    assert cost.image > 0
    assert cost.fixed >= -1e-12


@pytest.mark.parametrize(
    ("seconds", "images"), [(0.001, 1), (0.012, 1), (0.0201, 5), (0.0421, 16), (9.0, 16)]
)
def test_the_largest_batch_that_fits_the_time(seconds: float, images: int) -> None:
    cost = learned(*[(n, 0.010 + 0.002 * n) for n in (1, 16)])
    assert cost.largest(seconds, most=16) == images


def test_before_anything_is_known_nothing_is_bounded() -> None:
    assert not BatchCost().known
    assert BatchCost().largest(0.001, most=16) == 16

import pytest

from gsop.engine.times import KNOWN, BatchTimes


def learned(*seen: tuple[int, float]) -> BatchTimes:
    times = BatchTimes()
    for size, seconds in seen:
        times.learn(size, seconds)
    return times


def test_it_finds_the_line() -> None:
    times = learned(*[(n, 0.010 + 0.002 * n) for n in (1, 4, 16, 7, 1)])
    assert times.image == pytest.approx(0.002)
    assert times.fixed == pytest.approx(0.010)
    assert times.expect(10) == pytest.approx(0.030)


def test_a_few_outliers_do_not_move_it() -> None:
    line = [(n, 0.010 + 0.002 * n) for n in (1, 4, 16)] * 5
    times = learned(*line, (16, 3.0), (1, 1.0), (4, 5.0), (16, 2.0))
    assert times.expect(8) == pytest.approx(0.026)


def test_it_follows_a_device_that_became_slower() -> None:
    line = [(n, 0.010 + 0.002 * n) for n in (1, 4, 16)] * 20
    times = learned(*line, *[(n, 2 * seconds) for n, seconds in line])
    assert times.expect(8) == pytest.approx(0.052)


def test_one_size_alone_is_shared_among_its_images() -> None:
    times = learned((4, 0.020))
    assert times.image == pytest.approx(0.005)
    assert times.fixed == pytest.approx(0)


def test_times_that_fall_with_size_give_no_negative_cost() -> None:
    times = learned((1, 0.030), (8, 0.020))
    assert times.image > 0
    assert times.fixed >= -1e-12


@pytest.mark.parametrize(
    ("seconds", "images"), [(0.001, 1), (0.012, 1), (0.0201, 5), (0.0421, 16), (9.0, 16)]
)
def test_the_largest_batch_that_fits_the_time(seconds: float, images: int) -> None:
    times = learned(*[(n, 0.010 + 0.002 * n) for n in (1, 16)])
    assert times.largest(seconds, most=16) == images


def test_a_size_that_was_seen_often_enough_is_believed_rather_than_the_line() -> None:
    line = [(n, 0.010 + 0.002 * n) for n in (2, 4, 16)]
    times = learned(*line, *[(1, 0.030)] * (KNOWN - 1))
    assert times.expect(1) != pytest.approx(0.030)
    times.learn(1, 0.030)  # a batch of one is dearer than the line has it
    assert times.expect(1) == pytest.approx(0.030)


def test_before_anything_is_known_nothing_is_bounded() -> None:
    assert BatchTimes().expect(16) == 0
    assert BatchTimes().largest(0.001, most=16) == 16

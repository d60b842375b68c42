import random

from benchmarks import batch_times


def test_a_device_that_goes_in_steps_is_known_by_its_sizes_and_not_by_a_line() -> None:
    chance = random.Random(0)  # noqa: S311
    found = batch_times.measure({"steps": batch_times.in_steps(1000, chance)})["steps"]
    mean = {way: sum(errors) / len(errors) for way, errors in found.items()}
    assert mean["size, else line"] < mean["moving mean"] < mean["line"]


def test_nothing_is_expected_of_a_device_that_is_not_known() -> None:
    assert all(kind().expect(4) == 0 for kind in batch_times.WAYS.values())

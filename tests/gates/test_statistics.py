import numpy as np
import pytest

from gsop.gates.statistics import GateStatistics

GENERATOR = np.random.default_rng(0)


def gates(count: int, size: int = 6) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return GENERATOR.uniform(0, 1, (count, size)).astype(np.float32)


def test_statistics_match_numpy_however_they_arrive() -> None:
    values = gates(50)
    seen = GateStatistics.empty(6)
    for part in np.split(values, [1, 4, 20]):
        seen.add(part)
    assert seen.samples == 50
    np.testing.assert_allclose(seen.mean, values.mean(axis=0, dtype=np.float64))
    np.testing.assert_allclose(seen.std, values.std(axis=0, dtype=np.float64))
    np.testing.assert_array_equal(seen.low, values.min(axis=0))
    np.testing.assert_array_equal(seen.high, values.max(axis=0))


def test_constant_gates_have_no_deviation() -> None:
    seen = GateStatistics.empty(1)
    for _ in range(1000):
        seen.add(np.full((7, 1), 0.1, np.float32))
    assert seen.std[0] == pytest.approx(0, abs=1e-7)


def test_two_engines_count_as_one() -> None:
    values = gates(30)
    first, second, both = (GateStatistics.empty(6) for _ in range(3))
    first.add(values[:10])
    second.add(values[10:])
    both.add(values)
    first.merge(second)
    assert first.samples == both.samples
    np.testing.assert_allclose(first.sums, both.sums)

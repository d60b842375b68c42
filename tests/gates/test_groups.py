"""Groups of gates: what is counted in portions is what numpy says of all at once."""

import numpy as np
import pytest

from gsop.gates.groups import Groups, strongest

GATES = 6


def drawn(seed: int, images: int = 200) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    groups = generator.integers(0, 3, images)
    gates = generator.uniform(0.2, 0.8, (images, GATES))
    gates[:, 0] = 0.5  # the same for all
    gates[:, 1] = 0.3 + 0.2 * groups  # the group decides it
    gates[:, 2] = 0.01
    gates[:, 3] = 0.99
    return gates, groups


def counted(gates: np.ndarray, groups: np.ndarray) -> Groups:
    found = Groups.empty(("a", "b", "c", "nobody"), GATES)
    for at in range(0, len(gates), 64):
        found.add(gates[at : at + 64], groups[at : at + 64])
    return found


def test_portions_add_up() -> None:
    gates, groups = drawn(0)
    found = counted(gates, groups)
    assert found.images == 200
    assert found.present() == [0, 1, 2]
    for group in range(3):
        np.testing.assert_allclose(found.means[group], gates[groups == group].mean(axis=0))
    assert np.isnan(found.means[3]).all()
    np.testing.assert_allclose(found.mean, gates.mean(axis=0))
    np.testing.assert_allclose(found.variance, gates.var(axis=0), atol=1e-12)


def test_separation_is_the_share_between_the_groups() -> None:
    gates, groups = drawn(1)
    separation = counted(gates, groups).separation
    assert separation[0] == 0, "a gate that does not move separates nothing"
    assert separation[1] == pytest.approx(1)
    within = sum(
        ((gates[groups == k, 4] - gates[groups == k, 4].mean()) ** 2).sum() for k in range(3)
    )
    whole = ((gates[:, 4] - gates[:, 4].mean()) ** 2).sum()
    assert separation[4] == pytest.approx(1 - within / whole)
    assert strongest(separation, 1) == [1]


def test_gates_that_never_open_or_close() -> None:
    found = counted(*drawn(2))
    assert np.flatnonzero(found.never_open).tolist() == [2]
    assert np.flatnonzero(found.never_closed).tolist() == [3]


def test_the_difference_is_in_deviations() -> None:
    gates, groups = drawn(3)
    moved = gates.copy()
    moved[:, 5] += gates[:, 5].std()
    apart = counted(gates, groups).difference(counted(moved, groups))
    np.testing.assert_allclose(apart, [0, 0, 0, 0, 0, 1], atol=1e-9)


def test_the_strongest_are_so_either_way() -> None:
    assert strongest(np.array([0.1, -3.0, 2.0]), 2) == [1, 2]

"""When a canary loses its share, and when it must not."""

import numpy as np
import numpy.typing as npt
import pytest

from gsop.serving.judge import WINDOW, WINDOWS, Judge, Seen, quantile, wilson

BOUNDS = (0.001, 0.002, 0.004, 0.008)


def buckets(*counts: float) -> npt.NDArray[np.float64]:
    return np.array(counts, float)


NONE = buckets(0, 0, 0, 0, 0)


def seen(
    answered: int,
    failed: int = 0,
    deaths: int = 0,
    times: npt.NDArray[np.float64] = NONE,
    drift: float | None = None,
) -> Seen:
    return Seen(answered, failed, deaths, times, drift)


def reason(stable: Seen, canary: Seen) -> str | None:
    verdict = Judge(BOUNDS).look(stable, canary)
    return verdict.reason if verdict else None


def test_a_canary_that_fails_throughout_is_found_at_once() -> None:
    assert reason(seen(1000), seen(10, failed=10)) == "failures"


def test_one_failure_of_a_few_images_proves_nothing() -> None:
    assert reason(seen(1000), seen(20, failed=1)) is None


def test_as_many_failures_as_the_stable_version_has_prove_nothing() -> None:
    assert reason(seen(10_000, failed=500), seen(10_000, failed=500)) is None


def test_two_points_more_are_found() -> None:
    assert reason(seen(20_000, failed=20), seen(1000, failed=22)) == "failures"
    assert reason(seen(20_000, failed=200), seen(2000, failed=62)) == "failures"


def test_nothing_is_concluded_beside_a_stable_version_of_which_nothing_is_known() -> None:
    assert reason(seen(0), seen(500, failed=100)) is None


def test_healthy_rollouts_go_through() -> None:
    # Of 1000 healthy ones at most 1 % may be taken back; 3 of 300 would be that.
    rng, taken_back = np.random.default_rng(0), 0
    for _ in range(300):
        stable = canary = stable_failed = canary_failed = 0
        for _ in range(40):
            canary, stable = canary + 50, stable + 200
            canary_failed += rng.binomial(50, 0.01)
            stable_failed += rng.binomial(200, 0.01)
            if reason(seen(stable, stable_failed), seen(canary, canary_failed)):
                taken_back += 1
                break
    assert taken_back <= 3


def test_engines_that_die_of_it_twice_are_found() -> None:
    assert reason(seen(100), seen(100, deaths=1)) is None
    assert reason(seen(100), seen(100, deaths=2)) == "deaths"


def test_it_is_slow_only_after_some_windows_one_after_the_other() -> None:
    judge, usual, slow = Judge(BOUNDS), NONE.copy(), NONE.copy()
    judge.look(seen(0, times=usual), seen(0, times=slow))
    verdicts = []
    for _ in range(WINDOWS):
        usual, slow = usual + buckets(WINDOW, 0, 0, 0, 0), slow + buckets(0, 0, WINDOW, 0, 0)
        verdicts.append(judge.look(seen(0, times=usual), seen(0, times=slow)))
    assert verdicts[:-1] == [None] * (WINDOWS - 1)
    assert verdicts[-1] is not None
    assert verdicts[-1].reason == "latency"


def test_a_quick_window_between_begins_anew() -> None:
    judge, usual, its = Judge(BOUNDS), NONE.copy(), NONE.copy()
    judge.look(seen(0, times=usual), seen(0, times=its))
    for index in (2, 2, 0, 2, 2):
        its = its.copy()
        its[index] += WINDOW
        usual = usual + buckets(WINDOW, 0, 0, 0, 0)
        assert judge.look(seen(0, times=usual), seen(0, times=its)) is None


def test_small_windows_are_waited_for() -> None:
    judge = Judge(BOUNDS)
    for number in range(20):
        few = buckets(0, 0, number, 0, 0)
        assert (
            judge.look(seen(0, times=buckets(number * 500, 0, 0, 0, 0)), seen(0, times=few)) is None
        )


def test_drift_counts_only_where_the_images_are_not_to_blame() -> None:
    assert reason(seen(9, drift=0.5), seen(9, drift=1.5)) == "drift"
    assert reason(seen(9), seen(9, drift=1.5)) is None, "the images may be to blame"
    assert reason(seen(9, drift=1.2), seen(9, drift=1.5)) is None
    assert reason(seen(9, drift=0.5), seen(9, drift=0.9)) is None


def test_quantiles_lie_between_the_bounds() -> None:
    assert quantile(buckets(0, 100, 0, 0, 0), BOUNDS, 0.5) == pytest.approx(0.0015)
    assert quantile(buckets(50, 50, 0, 0, 0), BOUNDS, 0.95) == pytest.approx(0.0019)
    assert quantile(buckets(0, 0, 0, 0, 7), BOUNDS, 0.5) == 0.008, "what is above all bounds"


def test_wilsons_interval() -> None:
    # Agresti and Coull 1998: 0 of 10 gives an upper bound of 0.2775.
    assert wilson(0, 10)[1] == pytest.approx(0.2775, abs=1e-4)
    assert wilson(10, 10)[0] == pytest.approx(0.7225, abs=1e-4)

"""The simulation against queues that are known."""

import itertools

import numpy as np
import pytest

from benchmarks.fleet import (
    LOOK_SECONDS,
    Autoscaler,
    Instance,
    Made,
    Times,
    arrivals,
    balancers,
    simulate,
)
from gsop.commands.sizing import Figures, image_mean
from tests.commands.test_size import FIGURES

MADE = Made(cores=1, most=16)
EXPONENTIAL = np.random.default_rng(0).exponential(1.0, 10_000).tolist()


def figures(**changed: object) -> Figures:
    return FIGURES.model_copy(update=changed)


def mean(found: Figures, rate: float, seconds: float, made: Made = MADE) -> float:
    instance = Instance(made, Times(found, EXPONENTIAL))
    seen = simulate([instance], arrivals(lambda _: rate, seconds), lambda all_: all_[0])
    assert instance.used == 0
    assert len(seen.seconds) + seen.refused == seen.asked
    return float(np.mean(seen.seconds))


@pytest.mark.parametrize("cores", [1, 3])
def test_images_are_an_mmk_queue(cores: int) -> None:
    quick = figures(batches=dict.fromkeys((1, 16), (1e-07,) * 3))
    rate = 600.0 * cores
    expected = image_mean(rate, 0.001, cores)
    assert mean(quick, rate, 20_000 / rate, Made(cores, 16)) == pytest.approx(expected, rel=0.1)


def test_batches_of_one_are_an_md1_queue() -> None:
    alone = figures(image_seconds=1e-7, batches={1: (0.002,) * 3})
    # Pollaczek and Khinchine: a wait of load · service / 2(1 - load).
    expected = 0.002 + 0.6 * 0.002 / (2 * 0.4)
    assert mean(alone, 300, 60, Made(1, 1)) == pytest.approx(expected, rel=0.1)


def test_of_more_than_fits_slots_bound_the_wait() -> None:
    instance = Instance(Made(1, 16, slots=64), Times(FIGURES, EXPONENTIAL))
    choose = balancers()["in turn"]
    seen = simulate([instance], arrivals(lambda _: 2000, 5), choose)
    answered = 1 - seen.refused_share
    assert answered == pytest.approx(FIGURES_CAPACITY / 2000, rel=0.1)
    assert seen.ms(99) == pytest.approx(64 / FIGURES_CAPACITY * 1000, rel=0.25)


FIGURES_CAPACITY = 16 / 0.018


def test_an_autoscaler_comes_to_what_is_asked_and_goes_back_when_it_is_calm() -> None:
    slow = figures(image_seconds=1e-4, batches={1: (0.1,) * 3, 2: (0.2,) * 3})
    times = Times(slow, EXPONENTIAL)
    instances = [Instance(MADE, times) for _ in range(2)]
    scaler = Autoscaler(
        instances,
        lambda ready: Instance(MADE, times, ready),
        target=1.0,
        start=10.0,
        least=2,
        most=50,
    )
    counts = {}

    def look(now: float) -> None:
        scaler(now)
        counts[now] = sum(not each.leaving for each in instances)

    def rate(now: float) -> float:
        return 80.0 if now < 200 else 5.0

    simulate(instances, arrivals(rate, 700), balancers()["better of two"], look)
    first, *_ = counts
    assert first < 2 * LOOK_SECONDS
    assert max(counts.values()) >= 10  # 8 erlangs
    seen = list(counts.values())
    assert all(later <= 2 * before + 4 for before, later in itertools.pairwise(seen))
    assert min(count for now, count in counts.items() if 200 < now < 450) >= 8
    assert seen[-1] < 5

"""Each process counts in its own row, and a reader adds them up."""

import numpy as np
import pytest

from gsop import errors
from gsop.arena.block import Role
from gsop.arena.counters import Meter, forget, totals
from gsop.arena.families import (
    BATCH_SIZE,
    FAMILIARITY,
    INFERENCE_SECONDS,
    OTHER,
    PREDICTIONS,
    RESULTS,
    SKIPPED,
    STATUSES,
    Ledger,
)
from gsop.arena.service import ServiceMemory


def meter(memory: ServiceMemory, role: Role) -> Meter:
    return Meter(ServiceMemory.attach(memory.fd, role))


def counted(memory: ServiceMemory, family: object, *labels: str) -> float:
    ledger = Ledger(memory.plan.routes)
    (at,) = [
        at for (owner, values), at in ledger.places.items() if (owner, values) == (family, labels)
    ]
    return float(totals(memory)[at])


def test_rows_add_up(memory: ServiceMemory) -> None:
    for role in (Role("engine", 0), Role("engine", 1), Role("engine", 1), Role("front", 1)):
        meter(memory, role).count(SKIPPED, "late")
    assert counted(memory, SKIPPED, "late") == 4
    assert counted(memory, SKIPPED, "expired") == 0


def test_a_histogram_has_its_buckets_and_its_sum(memory: ServiceMemory) -> None:
    engine = meter(memory, Role("engine"))
    for size in (1, 2, 3, 5000):
        engine.observe(BATCH_SIZE, size)
    (start,) = [at for _, at in Ledger(memory.plan.routes).rows(BATCH_SIZE)]
    row = totals(memory)[start : start + BATCH_SIZE.width]
    assert row[:3].tolist() == [1, 1, 1]
    assert (row[-2], row[-1]) == (1, 5006)


def test_several_observations_are_counted_as_each_would_be(memory: ServiceMemory) -> None:
    values = [0.0, 0.001, 0.0011, 0.3, 1.0]
    one, other = meter(memory, Role("engine", 0)), meter(memory, Role("engine", 1))
    for value in values:
        one.observe(FAMILIARITY, value, "3")
    other.observe_all(FAMILIARITY, np.array(values), "3")
    other.observe_all(FAMILIARITY, np.zeros(0), "3")
    rows = memory.view("counters")[-4:-2]
    np.testing.assert_allclose(rows[0], rows[1])
    assert rows[1].any()


@pytest.mark.parametrize(
    ("route", "status", "labels"),
    [
        ("/predict", 200, ("/predict", "200")),
        ("/secret", 200, (OTHER, "200")),
        ("/predict", 299, ("/predict", OTHER)),
    ],
)
def test_a_request_is_counted_by_what_is_declared(
    memory: ServiceMemory, route: str, status: int, labels: tuple[str, str]
) -> None:
    meter(memory, Role("front")).count_request(route, status, 0.3)
    assert counted(memory, Ledger(memory.plan.routes).requests, *labels) == 1


def test_how_long_a_request_took_is_counted_unless_its_client_left(memory: ServiceMemory) -> None:
    front, ledger = meter(memory, Role("front")), Ledger(memory.plan.routes)
    front.count_request("/predict", 200, 0.2)
    front.count_request("/predict", 499, 60.0)
    at = ledger.places[ledger.request_seconds, ("/predict",)]
    row = totals(memory)[at : at + ledger.request_seconds.width]
    assert row[ledger.request_seconds.buckets.index(0.2)] == 1  # a bound counts what equals it
    assert (row[:-1].sum(), row[-1]) == (1, 0.2)


def test_each_error_of_ours_has_its_status_and_its_code() -> None:
    raised = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.GSoPError)
    ]
    assert {str(kind.status) for kind in raised} <= set(STATUSES)
    assert {kind.code for kind in raised} <= set(RESULTS)


def test_what_is_counted_for_a_version_begins_anew_with_another_one(memory: ServiceMemory) -> None:
    front = meter(memory, Role("front"))
    for place in ("3", "3", "4"):
        front.count(PREDICTIONS, place, "stable", "ok")
        front.observe(INFERENCE_SECONDS, 0.25, place, "stable")
    forget(memory, 3)
    assert counted(memory, PREDICTIONS, "3", "stable", "ok") == 0
    assert counted(memory, PREDICTIONS, "4", "stable", "ok") == 1
    at = Ledger(memory.plan.routes).places[INFERENCE_SECONDS, ("3", "stable")]
    assert not totals(memory)[at : at + INFERENCE_SECONDS.width].any()
    front.count(PREDICTIONS, "3", "canary", "ok")
    forget(memory, 3)
    front.count(PREDICTIONS, "3", "stable", "ok")
    assert counted(memory, PREDICTIONS, "3", "stable", "ok") == 1
    assert counted(memory, PREDICTIONS, "3", "canary", "ok") == 0

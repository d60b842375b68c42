"""Each process counts in its own row, and a reader adds them up."""

import pytest

from gsop import errors
from gsop.arena.counters import Meter, totals
from gsop.arena.families import BATCH_SIZE, OTHER, RESULTS, SKIPPED, STATUSES, Ledger
from gsop.arena.layout import Arena, Role


def meter(arena: Arena, role: Role) -> Meter:
    return Meter(Arena.attach(arena.fd, role))


def counted(arena: Arena, family: object, *labels: str) -> float:
    ledger = Ledger(arena.deployment.routes)
    (at,) = [
        at for (owner, values), at in ledger.places.items() if (owner, values) == (family, labels)
    ]
    return float(totals(arena)[at])


def test_rows_add_up(arena: Arena) -> None:
    for role in (Role("engine", 0), Role("engine", 1), Role("engine", 1), Role("front", 1)):
        meter(arena, role).count(SKIPPED, "late")
    assert counted(arena, SKIPPED, "late") == 4
    assert counted(arena, SKIPPED, "expired") == 0


def test_a_histogram_has_its_buckets_and_its_sum(arena: Arena) -> None:
    engine = meter(arena, Role("engine"))
    for size in (1, 2, 3, 5000):
        engine.observe(BATCH_SIZE, size)
    (start,) = [at for _, at in Ledger(arena.deployment.routes).rows(BATCH_SIZE)]
    row = totals(arena)[start : start + BATCH_SIZE.width]
    assert row[:3].tolist() == [1, 1, 1]
    assert (row[-2], row[-1]) == (1, 5006)


@pytest.mark.parametrize(
    ("route", "status", "labels"),
    [
        ("/predict", 200, ("/predict", "200")),
        ("/secret", 200, (OTHER, "200")),
        ("/predict", 299, ("/predict", OTHER)),
    ],
)
def test_a_request_is_counted_by_what_is_declared(
    arena: Arena, route: str, status: int, labels: tuple[str, str]
) -> None:
    meter(arena, Role("front")).count_request(route, status)
    assert counted(arena, Ledger(arena.deployment.routes).requests, *labels) == 1


def test_each_error_of_ours_has_its_status_and_its_code() -> None:
    raised = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.GSoPError)
    ]
    assert {str(kind.status) for kind in raised} <= set(STATUSES)
    assert {kind.code for kind in raised} <= set(RESULTS)

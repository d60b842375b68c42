"""Policy, in milliseconds: no sockets, no clock, no device."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gsop.engine.scheduler import Batch, Job, Scheduler

MS = 1_000_000
FAR = 10**15

AnyJob = Job[str]


def job(
    ticket: int,
    *,
    model: int = 0,
    submitted: int = 0,
    deadline: int = FAR,
    alone: bool = False,
) -> AnyJob:
    return Job(ticket, ticket, model, submitted, deadline, alone, "a front")


def wanted(_: AnyJob) -> bool:
    return True


def tickets(batch: Batch[str] | None) -> list[int]:
    return [] if batch is None else [job.ticket for job in batch.jobs]


def filled(scheduler: Scheduler[str], *jobs: AnyJob) -> Scheduler[str]:
    for one in jobs:
        scheduler.add(one)
    return scheduler


def took(scheduler: Scheduler[str], sizes: list[int], ms: Callable[[int], float]) -> int:
    """Have batches of these sizes run, taking so many ms; the time afterwards."""
    now = 0
    for size in sizes:
        filled(scheduler, *(job(1000 + n) for n in range(size)))
        batch = scheduler.next(now, wanted)
        assert batch is not None
        assert len(batch.jobs) == size
        now += int(ms(size) * MS)
        scheduler.finished(batch, now)
    return now


def test_what_waits_goes_in_one_batch_oldest_first() -> None:
    scheduler = filled(Scheduler([4]), *map(job, range(1, 7)))
    assert tickets(scheduler.next(0, wanted)) == [1, 2, 3, 4]


def test_a_device_that_has_a_batch_is_given_none() -> None:
    scheduler = filled(Scheduler([1]), job(1), job(2))
    first = scheduler.next(0, wanted)
    assert first is not None
    assert scheduler.next(0, wanted) is None
    scheduler.finished(first, MS)
    assert tickets(scheduler.next(MS, wanted)) == [2]


def test_a_deep_device_is_given_the_next_batch_meanwhile() -> None:
    scheduler = filled(Scheduler([1], depth=2), job(1), job(2), job(3))
    assert tickets(scheduler.next(0, wanted)) == [1]
    assert tickets(scheduler.next(0, wanted)) == [2]
    assert scheduler.next(0, wanted) is None
    assert tickets(scheduler.oldest) == [1]


def test_the_oldest_decides_the_model_and_others_wait_in_their_order() -> None:
    jobs = [job(1, model=1), job(2), job(3, model=1), job(4), job(5, model=1)]
    scheduler = filled(Scheduler([2, 2]), *jobs)
    for expected in ([1, 3], [2, 4], [5]):
        batch = scheduler.next(0, wanted)
        assert tickets(batch) == expected
        assert batch is not None
        scheduler.finished(batch, MS)


def test_what_is_retried_alone_is_alone_on_the_device() -> None:
    jobs = [job(1), job(2, alone=True), job(3, alone=True), job(4)]
    scheduler = filled(Scheduler([4], depth=2), *jobs)
    first = scheduler.next(0, wanted)
    assert tickets(first) == [1, 4]
    assert first is not None
    assert scheduler.next(0, wanted) is None, "it waits until the device has nothing"
    scheduler.finished(first, MS)
    for ticket in (2, 3):
        batch = scheduler.next(MS, wanted)
        assert tickets(batch) == [ticket]
        assert batch is not None
        assert scheduler.next(MS, wanted) is None, "nothing goes beside it"
        scheduler.finished(batch, 2 * MS)


def test_what_nobody_waits_for_and_what_has_expired_is_dropped() -> None:
    scheduler = filled(Scheduler([4]), job(1), job(2, deadline=5), job(3))
    batch = scheduler.next(10, lambda one: one.ticket != 1)
    assert tickets(batch) == [3]
    assert [(drop.job.ticket, drop.reason) for drop in scheduler.take_dropped()] == [
        (1, "cancelled"),
        (2, "expired"),
    ]
    assert scheduler.take_dropped() == []


def test_what_would_be_late_is_not_begun() -> None:
    scheduler = Scheduler[str]([16])
    now = took(scheduler, [1, 2, 4], lambda _: 200)
    filled(scheduler, job(1, deadline=now + 100 * MS), job(2))
    assert tickets(scheduler.next(now, wanted)) == [2]
    assert [drop.reason for drop in scheduler.take_dropped()] == ["late"]


def test_the_last_that_waits_is_tried_however_long_it_is_expected_to_take() -> None:
    scheduler = Scheduler[str]([16])
    now = took(scheduler, [1, 1, 1], lambda _: 1000)
    filled(scheduler, job(1, deadline=now + 100 * MS))
    assert tickets(scheduler.next(now, wanted)) == [1]


def test_what_the_device_has_already_counts_for_who_comes_after_it() -> None:
    scheduler = Scheduler[str]([1], depth=2)
    now = took(scheduler, [1, 1, 1], lambda _: 100)
    filled(scheduler, job(1), job(2, deadline=now + 150 * MS), job(3))
    assert tickets(scheduler.next(now, wanted)) == [1]
    # 100 ms of the first batch are still to come, and then 100 of its own.
    assert tickets(scheduler.next(now, wanted)) == [3]
    assert [drop.job.ticket for drop in scheduler.take_dropped()] == [2]


def test_a_target_latency_bounds_batches_by_what_they_take() -> None:
    scheduler = Scheduler[str]([16], target_seconds=0.1)
    now = took(scheduler, [1, 1, 2, 2, 4, 4], lambda size: 10 + 5 * size)
    filled(scheduler, *(job(n, submitted=now) for n in range(16)))
    assert len(tickets(scheduler.next(now, wanted))) == 8  # 10 + 5·8 is half of 100 ms


def test_where_the_target_is_lost_large_batches_catch_up() -> None:
    scheduler = Scheduler[str]([16], target_seconds=0.1)
    now = took(scheduler, [1, 1, 2, 2, 4, 4], lambda size: 10 + 5 * size)
    filled(scheduler, *(job(n, submitted=now - 200 * MS) for n in range(16)))
    assert len(tickets(scheduler.next(now, wanted))) == 16


def test_a_batch_that_does_not_fit_is_halved_and_comes_first_again() -> None:
    scheduler = filled(Scheduler([8]), *map(job, range(1, 11)))
    for expected, limit in (([1, 2, 3, 4, 5, 6, 7, 8], 4), ([1, 2, 3, 4], 2), ([1, 2], 1)):
        batch = scheduler.next(0, wanted)
        assert tickets(batch) == expected
        assert batch is not None
        assert scheduler.did_not_fit(batch) is None
        assert scheduler.limits == [limit]
    single = scheduler.next(0, wanted)
    assert single is not None
    hopeless = scheduler.did_not_fit(single)
    assert hopeless is not None
    assert hopeless.ticket == 1
    assert tickets(scheduler.next(0, wanted)) == [2]


# ── properties, over every order in which things may happen ──────────────────────────────────────


class SchedulerMachine(RuleBasedStateMachine):
    """Jobs come, are given up and expire; batches run, do not fit, and end; time goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = [3, 2]
        self.scheduler = Scheduler[str](self.limits, depth=2)
        self.now = 0
        self.ticket = 0
        self.waiting: list[AnyJob] = []
        self.unwanted: set[int] = set()
        self.flying: list[Batch[str]] = []
        self.begun: set[int] = set()
        self.settled: dict[int, str] = {}

    def is_wanted(self, one: AnyJob) -> bool:
        return one.ticket not in self.unwanted

    @rule(
        model=st.integers(0, 1),
        alone=st.booleans(),
        left=st.one_of(st.just(FAR), st.integers(1, 50)),
    )
    def come(self, model: int, alone: bool, left: int) -> None:
        self.ticket += 1
        one = job(
            self.ticket, model=model, alone=alone, submitted=self.now, deadline=self.now + left
        )
        self.waiting.append(one)
        self.scheduler.add(one)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        self.unwanted.add(data.draw(st.sampled_from(self.waiting)).ticket)

    @rule(ns=st.integers(1, 40))
    def wait(self, ns: int) -> None:
        self.now += ns

    @rule()
    def launch(self) -> None:
        before = list(self.waiting)
        batch = self.scheduler.next(self.now, self.is_wanted)
        for drop in self.scheduler.take_dropped():
            assert drop.job.ticket not in self.settled, "settled twice"
            if drop.reason == "cancelled":
                assert not self.is_wanted(drop.job), "a wanted job is lost"
            elif drop.reason == "expired":
                assert drop.job.deadline <= self.now
            self.settled[drop.job.ticket] = drop.reason
            self.waiting.remove(drop.job)
        if batch is None:
            open_ = len(self.flying) < 2 and not any(b.jobs[0].alone for b in self.flying)
            held_back = [one for one in self.waiting if one.alone] if self.flying else []
            idle = [one for one in self.waiting if self.is_wanted(one)]
            assert not (open_ and idle) or idle[0] in held_back, "the device is idle"
            return
        assert batch.jobs, "an empty batch"
        assert len({one.model for one in batch.jobs}) == 1
        assert len(batch.jobs) <= self.scheduler.limits[batch.model], "above the limit"
        for one in batch.jobs:
            assert one.ticket not in self.settled
            assert one.ticket not in self.begun, "it runs twice"
            assert self.is_wanted(one)
            assert one.deadline > self.now
            self.begun.add(one.ticket)
            self.waiting.remove(one)
        if any(one.alone for one in batch.jobs):
            assert len(batch.jobs) == 1, "alone is alone in its batch"
            assert not self.flying, "and on the device"
        assert not any(b.jobs[0].alone for b in self.flying), "nothing goes beside it"
        self.check_order(batch, before)
        self.flying.append(batch)

    def check_order(self, batch: Batch[str], before: list[AnyJob]) -> None:
        """Oldest first: whoever stood before is settled, of another model, or must be alone."""
        last = before.index(batch.jobs[-1])
        for one in before[:last]:
            left_out = one not in batch.jobs and one.ticket not in self.settled
            if left_out:
                assert one.model != batch.model or one.alone
        assert batch.jobs == [one for one in before if one in batch.jobs]

    @precondition(lambda self: self.flying)
    @rule()
    def finish(self) -> None:
        batch = self.flying.pop(0)
        assert self.scheduler.oldest is batch
        self.now += 1
        self.scheduler.finished(batch, self.now)
        self.settled |= {one.ticket: "answered" for one in batch.jobs}

    @precondition(lambda self: self.flying)
    @rule()
    def not_fit(self) -> None:
        batch = self.flying.pop()
        hopeless = self.scheduler.did_not_fit(batch)
        self.begun -= {one.ticket for one in batch.jobs}
        if hopeless is not None:
            self.settled[hopeless.ticket] = "given up"
        else:
            self.waiting = [*batch.jobs, *self.waiting]

    @invariant()
    def nothing_is_lost(self) -> None:
        known = {one.ticket for one in self.waiting} | set(self.settled)
        known |= {one.ticket for batch in self.flying for one in batch.jobs}
        assert known == set(range(1, self.ticket + 1))
        assert self.scheduler.is_idle == (not self.waiting and not self.flying)

    def teardown(self) -> None:
        """In the end everything is settled, whatever has happened."""
        for _ in range(5 * self.ticket + 10):
            self.launch()
            if self.flying:
                self.finish()
        assert set(self.settled) == set(range(1, self.ticket + 1))


TestProperties = SchedulerMachine.TestCase
TestProperties.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("depth", [1, 2])
@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_each_job_runs_once_however_they_come(depth: int, sizes: list[int]) -> None:
    scheduler, seen, ticket, now = Scheduler[str]([8], depth=depth), [], 0, 0
    for size in sizes:
        for _ in range(size):
            ticket += 1
            scheduler.add(job(ticket))
        while scheduler.next(now, wanted) is not None:
            pass
        oldest = scheduler.oldest
        assert oldest is not None
        seen += tickets(oldest)
        now += MS
        scheduler.finished(oldest, now)
    while not scheduler.is_idle:
        scheduler.next(now, wanted)
        oldest = scheduler.oldest
        assert oldest is not None
        seen += tickets(oldest)
        scheduler.finished(oldest, now)
    assert seen == list(range(1, ticket + 1))

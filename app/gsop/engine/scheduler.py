"""What the device does next. Policy alone: no sockets, no clock, no device, no shared memory.

A batch is formed at the last moment, from whatever waits when the device can take it: no timer
holds a request back, and a busy device makes the batches grow by itself. The oldest that waits
decides the model, and the others of that model follow in their order, up to what the device has
room for.

What nobody waits for any more, what has expired, and what would expire before its batch's end is
dropped here, so the device never sees it. What an engine may have died of goes alone.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeVar

from gsop.engine.times import BatchTimes

P = TypeVar("P")

NS = 1e-9
"""A nanosecond, in seconds."""


@dataclass(frozen=True, slots=True)
class Job(Generic[P]):
    """A slot that waits.

    Attributes:
        slot, ticket: where the image lies, and for which request.
        model: index of the model that is to see it.
        submitted: when its front sent it, in ns.
        deadline: when its answer becomes worthless, in ns.
        alone: whether it may have nothing else on the device beside it.
        peer: who waits for it.
    """

    slot: int
    ticket: int
    model: int
    submitted: int
    deadline: int
    alone: bool
    peer: P


class Drop(NamedTuple, Generic[P]):
    """A job that the device will not see, and why.

    ``cancelled``: nobody waits for it. ``expired``: its deadline has passed. ``late``: it would
    have passed before the end of its batch.
    """

    job: Job[P]
    reason: Literal["cancelled", "expired", "late"]


@dataclass(frozen=True, eq=False)
class Batch(Generic[P]):
    """Jobs of one model on the device, oldest first.

    Attributes:
        jobs: at least one.
        model: their model.
        started: when the batch was begun, in ns.
    """

    jobs: list[Job[P]]
    model: int
    started: int


class Scheduler(Generic[P]):
    """The jobs of one engine: those that wait, and those that the device has.

    Args:
        limits: most images in a batch, for each model.
        depth: batches that the device may have at once.
        target_seconds: what a request should take at most; 0 for no such bound.

    Attributes:
        limits: as above; lowered where the device has less room.
        times: of each model's batches.
    """

    def __init__(self, limits: Sequence[int], *, depth: int = 1, target_seconds: float = 0) -> None:
        self.limits = list(limits)
        self.times = [BatchTimes() for _ in limits]
        self._depth = depth
        self._target_seconds = target_seconds
        # Who just misses the batches in flight waits for them, and then for its own.
        self._batch_seconds = target_seconds / (depth + 1)
        self._waiting: deque[Job[P]] = deque()
        self._flying: deque[Batch[P]] = deque()
        self._dropped: list[Drop[P]] = []
        self._last_finished = 0

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do until a job comes."""
        return not (self._waiting or self._flying)

    @property
    def oldest(self) -> Batch[P] | None:
        """The batch that the device will be done with next."""
        return self._flying[0] if self._flying else None

    def add(self, job: Job[P]) -> None:
        """A job has come."""
        self._waiting.append(job)

    def next(self, now: int, is_wanted: Callable[[Job[P]], bool]) -> Batch[P] | None:
        """The next batch, which the device is to have at once; ``None`` if it can take none now.

        Args:
            now: the time, in ns.
            is_wanted: whether somebody still waits for a job.
        """
        if len(self._flying) >= self._depth or any(b.jobs[0].alone for b in self._flying):
            return None  # beside a job alone, an engine's death would be laid to both
        jobs: list[Job[P]] = []
        passed: list[Job[P]] = []
        limit = 1
        while self._waiting and len(jobs) < limit:
            job = self._waiting.popleft()
            if reason := self._reason_to_drop(job, now, is_wanted):
                self._dropped.append(Drop(job, reason))
            elif not jobs:
                if job.alone and self._flying:
                    self._waiting.appendleft(job)
                    break
                jobs.append(job)
                limit = 1 if job.alone else self._limit(job, now)
            elif job.model != jobs[0].model or job.alone:
                passed.append(job)
            else:
                jobs.append(job)
        self._waiting.extendleft(reversed(passed))
        if not jobs:
            return None
        batch = Batch(jobs, jobs[0].model, now)
        self._flying.append(batch)
        return batch

    def take_dropped(self) -> list[Drop[P]]:
        """What was dropped since this was asked last."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def finished(self, batch: Batch[P], now: int) -> None:
        """The device is done with its oldest batch."""
        self._flying.remove(batch)
        # It began that when it was done with the one before.
        seconds = (now - max(batch.started, self._last_finished)) * NS
        self._last_finished = now
        self.times[batch.model].learn(len(batch.jobs), seconds)

    def did_not_fit(self, batch: Batch[P]) -> Job[P] | None:
        """The device has no room for the newest batch: from now on half as many go in at most.

        Its jobs wait again, as the first. The limit stays lowered: what else the device's memory is
        used for will most likely be there again.

        Returns:
            The job to give up, if it was one image that did not fit.
        """
        self._flying.remove(batch)
        if len(batch.jobs) == 1:
            return batch.jobs[0]
        self.limits[batch.model] = len(batch.jobs) // 2
        self._waiting.extendleft(reversed(batch.jobs))
        return None

    def _reason_to_drop(
        self, job: Job[P], now: int, is_wanted: Callable[[Job[P]], bool]
    ) -> Literal["cancelled", "expired", "late"] | None:
        if not is_wanted(job):
            return "cancelled"
        if job.deadline <= now:
            return "expired"
        return "late" if self._would_be_late(job, now) else None

    def _would_be_late(self, job: Job[P], now: int) -> bool:
        """Whether the device would compute an answer that nobody waits for any more.

        Under overload the oldest that waits is always about to expire: to begin it would waste the
        device, and with short deadlines no request would ever be answered. The last that waits is
        tried whatever is expected, so an expectation that has become wrong is found out.
        """
        if not self._waiting:
            return False
        size = 1 if job.alone else min(self.limits[job.model], 1 + len(self._waiting))
        expected = self._backlog(now) + self.times[job.model].expect(size)
        return (job.deadline - now) * NS < expected

    def _backlog(self, now: int) -> float:
        """Seconds until the device is done with what it has."""
        if not self._flying:
            return 0.0
        expected = [self.times[batch.model].expect(len(batch.jobs)) for batch in self._flying]
        begun = max(self._flying[0].started, self._last_finished)
        return max(0.0, expected[0] - (now - begun) * NS) + sum(expected[1:])

    def _limit(self, oldest: Job[P], now: int) -> int:
        """Most images of the next batch: what the device holds, and what the time is enough for.

        When it is not enough even so, because the oldest has waited for too long, more wait than
        small batches can serve: what helps all of them is to catch up, in large ones.
        """
        most, times = self.limits[oldest.model], self.times[oldest.model]
        if not self._batch_seconds:
            return most
        limit = times.largest(self._batch_seconds, most)
        waited = (now - oldest.submitted) * NS
        return limit if waited + times.expect(limit) <= self._target_seconds else most

"""Simulated instances: requests that wait, are decoded and go into batches, and who adds instances.

Batches are formed by the service's own scheduler (:mod:`gsop.engine.scheduler`); times are drawn
from those that were measured. Times are in seconds.
"""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.summary import percentile
from gsop.commands.sizing import Figures
from gsop.engine.scheduler import Batch, Job, Scheduler

NS = 1_000_000_000
SLOTS = 256
TIMEOUT = 30.0

LOOK_SECONDS = 15.0
CALM_SECONDS = 300.0
"""How often an autoscaler looks, and how long it has to find fewer enough: what deploy/kubernetes
sets, and Kubernetes does by default."""


class Times:
    """Draws times that were measured."""

    def __init__(self, figures: Figures, images: Sequence[float], seed: int = 1) -> None:
        self._chance = np.random.default_rng(seed)
        self._batches = {size: np.array(each) for size, each in sorted(figures.batches.items())}
        self._sizes = list(self._batches)
        scale = figures.image_seconds / float(np.mean(images))
        self._images = np.array(images) * scale
        self._drawn: Iterator[float] = iter(())

    def image(self) -> float:
        """Seconds of a core for one image."""
        for seconds in self._drawn:
            return seconds
        self._drawn = iter(self._chance.choice(self._images, 4096).tolist())
        return next(self._drawn)

    def batch(self, size: int) -> float:
        """Seconds of a batch: between those of the measured sizes around it."""
        above = next((each for each in self._sizes if each >= size), self._sizes[-1])
        below = next((each for each in reversed(self._sizes) if each <= size), above)
        one, other = (float(self._chance.choice(self._batches[each])) for each in (below, above))
        return one + (other - one) * (size - below) / max(1, above - below)


@dataclass(frozen=True)
class Made:
    """What an instance is made of."""

    cores: int
    most: int
    slots: int = SLOTS


class Instance:
    """One: cores for images, slots, an engine with the service's scheduler. Times are in seconds.

    Attributes:
        used: slots in use.
        late: requests whose deadline passed before their batch.
        ready: from when on it takes requests.
        leaving: whether it gets no more.
    """

    def __init__(self, made: Made, times: Times, ready: float = 0.0) -> None:
        self._times, self._slots = times, made.slots
        self._cores = [0.0] * made.cores
        self._scheduler: Scheduler[float] = Scheduler([made.most])
        self.used = 0
        self.late = 0
        self.ready = ready
        self.leaving = False

    def admit(self, now: float) -> float | None:
        """When a request's image will be decoded; ``None``: it is refused."""
        if self.used >= self._slots:
            return None
        self.used += 1
        done = max(now, heapq.heappop(self._cores)) + self._times.image()
        heapq.heappush(self._cores, done)
        return done

    def submit(self, now: float, arrived: float) -> None:
        """An image goes to the engine."""
        at, deadline = round(now * NS), round((arrived + TIMEOUT) * NS)
        self._scheduler.add(Job(0, 0, 0, at, deadline, False, arrived))

    def next(self, now: float) -> tuple[float, Batch[float]] | None:
        """The next batch and when it will be done, if the device is free and any wait."""
        batch = self._scheduler.next(round(now * NS), lambda _: True)
        dropped = len(self._scheduler.take_dropped())
        self.used -= dropped
        self.late += dropped
        return None if batch is None else (now + self._times.batch(len(batch.jobs)), batch)

    def finished(self, batch: Batch[float], now: float) -> None:
        """The device is done with it."""
        self._scheduler.finished(batch, round(now * NS))
        self.used -= len(batch.jobs)


@dataclass
class Seen:
    """What clients saw.

    Attributes:
        seconds: of each request that was answered.
        arrived: when it came.
        refused: requests that were (429), or whose deadline passed (504).
        asked: all requests.
    """

    seconds: list[float] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)
    refused: int = 0
    asked: int = 0

    @property
    def refused_share(self) -> float:
        """Of all."""
        return self.refused / self.asked

    def ms(self, percent: float) -> float:
        """A percentile of the answers, in milliseconds."""
        return percentile(self.seconds, percent) * 1000


Choose = Callable[[Sequence[Instance]], Instance]


def balancers(seed: int = 2) -> dict[str, Choose]:
    """Ways of a load balancer, by name."""
    chance = np.random.default_rng(seed)
    numbers = itertools.chain.from_iterable(chance.random(4096).tolist() for _ in itertools.count())
    turn = itertools.count()

    def at_random(instances: Sequence[Instance]) -> Instance:
        return instances[int(next(numbers) * len(instances))]

    def better_of_two(instances: Sequence[Instance]) -> Instance:
        return min(at_random(instances), at_random(instances), key=lambda each: each.used)

    return {
        "at random": at_random,
        "in turn": lambda instances: instances[next(turn) % len(instances)],
        "better of two": better_of_two,
    }


def arrivals(rate: Callable[[float], float], seconds: float, seed: int = 3) -> Iterator[float]:
    """Times of requests, of a rate that changes slowly against what lies between two of them."""
    chance = np.random.default_rng(seed)
    now = 0.0
    while True:
        for gap in chance.exponential(1.0, 4096).tolist():
            now += gap / rate(now)
            if now >= seconds:
                return
            yield now


def simulate(
    instances: list[Instance],
    times: Iterator[float],
    choose: Choose,
    every: Callable[[float], None] | None = None,
) -> Seen:
    """Let requests come; ``every`` may change the instances, each :data:`LOOK_SECONDS`."""
    seen = Seen()
    events: list[tuple[float, int, Instance, float | Batch[float]]] = []
    number = itertools.count()
    look = LOOK_SECONDS
    taking = [each for each in instances if each.ready <= 0]

    def run(until: float) -> None:
        while events and events[0][0] <= until:
            now, _, instance, what = heapq.heappop(events)
            if isinstance(what, Batch):
                instance.finished(what, now)
                for job in what.jobs:
                    seen.seconds.append(now - job.peer)
                    seen.arrived.append(job.peer)
            else:
                instance.submit(now, what)
            begun = instance.next(now)
            if begun is not None:
                heapq.heappush(events, (begun[0], next(number), instance, begun[1]))

    for now in times:
        run(now)
        if every is not None and now >= look:
            every(now)
            taking = [each for each in instances if each.ready <= now and not each.leaving]
            look += LOOK_SECONDS
        seen.asked += 1
        instance = choose(taking)
        done = instance.admit(now)
        if done is None:
            seen.refused += 1
        else:
            heapq.heappush(events, (done, next(number), instance, now))
    run(math.inf)
    seen.refused += sum(each.late for each in instances)
    return seen


class Autoscaler:
    """Kubernetes': as many as ``target`` slots in use each ask for; fewer only once it is calm.

    Args:
        instances: that there are; changed.
        new: makes one that is ready at some time.
        target: slots in use, of each instance.
        start: seconds until one is ready.
        least, most: instances.
    """

    def __init__(
        self,
        instances: list[Instance],
        new: Callable[[float], Instance],
        *,
        target: float,
        start: float,
        least: int,
        most: int,
    ) -> None:
        self._instances, self._new = instances, new
        self._target, self._start = target, start
        self._least, self._most = least, most
        self._wanted: deque[tuple[float, int]] = deque()
        self.instance_seconds = 0.0
        self.peak = 0

    def __call__(self, now: float) -> None:
        """Look, and start or end some."""
        there = [each for each in self._instances if not each.leaving]
        self.instance_seconds += len(there) * LOOK_SECONDS
        self.peak = max(self.peak, len(there))
        used = sum(each.used for each in there if each.ready <= now)
        wanted = math.ceil(used / self._target)
        if abs(used / (self._target * len(there)) - 1) <= 0.1:  # its tolerance
            wanted = len(there)
        self._wanted.append((now, wanted))
        while self._wanted[0][0] < now - CALM_SECONDS:
            self._wanted.popleft()
        most = max(2 * len(there), len(there) + 4)  # its default pace, each 15 s
        count = min(most, max(wanted, min(len(there), max(each for _, each in self._wanted))))
        count = min(self._most, max(self._least, count))
        for _ in range(count - len(there)):
            self._instances.append(self._new(now + self._start))
        for each in there[count:]:
            each.leaving = True

"""What many instances do that nobody has here: admission and autoscaling, over measured times.

    python -m benchmarks.simulation --figures FILE [--slow FILE]

A request waits for one of its instance's cores, is decoded, and goes into a batch; the batches are
formed by the service's own scheduler (:mod:`gsop.engine.scheduler`), and take what a batch of that
size once took: one of the times in the figures that ``gsop size --measure`` wrote. Images take what
photographs of three sizes take to decode here, scaled so that their mean is what was measured.
Arrivals are a Poisson process. What comes out stands beside what the formulas of ``gsop size``
(:mod:`gsop.commands.sizing`) and an M/M/c queue say.

``--slow`` names figures of a model of which an instance does few requests a second, so that half an
hour of a hundred of them can be simulated: the autoscaler's part.
"""

import argparse
import heapq
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from benchmarks import bodies, models, serve
from benchmarks.summary import markdown, percentile
from gsop.commands.sizing import LONGEST, SHARE, Figures, Sizing, erlang_c, image_p99
from gsop.engine.scheduler import Batch, Job, Scheduler
from gsop.images import decode

NS = 1_000_000_000
SLOTS = 256
TIMEOUT = 30.0
PHOTOGRAPHS = ((240, 180), (500, 375), (1000, 750))
DECODES = 40
"""Of each photograph."""

SHARES = (0.3, 0.5, 0.7, 0.8, 0.9, 1.2)
INSTANCES = 100

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


def decode_seconds() -> list[float]:
    """What photographs take to decode here, in processor time."""
    found = []
    for width, height in PHOTOGRAPHS:
        body = bodies.photograph(width, height)
        for _ in range(DECODES):
            began = time.process_time()
            decode(body, models.INPUT, max_pixels=50_000_000)
            found.append(time.process_time() - began)
    return found


# ── what is tried ────────────────────────────────────────────────────────────────────────────────


def made_for(figures: Figures, slots: int = SLOTS) -> tuple[Made, float]:
    """An instance whose cores keep up with its engine, and the requests a second that it can do."""
    most = max(figures.batches)
    device = most / figures.times.expect(most)
    cores = math.ceil(device * figures.image_seconds)
    return Made(cores, most, slots), min(device, cores / figures.image_seconds)


def one_instance(
    figures: Figures, images: Sequence[float], requests: int
) -> list[dict[str, float]]:
    """An instance at shares of its capacity, beside what formulas say."""
    made, capacity = made_for(figures)
    sizing = Sizing(figures, p99=60.0, share=0.99)
    found = []
    for share in SHARES:
        rate = share * capacity
        instance = Instance(made, Times(figures, images))
        seen = simulate(
            [instance], arrivals(lambda _, r=rate: r, requests / rate), lambda all_: all_[0]
        )
        ours = math.inf
        if share < 1:
            ours = sizing.engine(rate).p99 + image_p99(rate, figures.image_seconds, made.cores)
        found.append(
            {
                "share": share,
                "rate": rate,
                "refused": seen.refused_share,
                "p50": seen.ms(50),
                "p99": seen.ms(99),
                "formula": ours * 1000,
                "mm1": LONGEST / (capacity - rate) * 1000 if share < 1 else math.inf,
            }
        )
    return found


def slots_tried(figures: Figures, images: Sequence[float], requests: int) -> list[dict[str, float]]:
    """An instance that gets a fifth more than it can do, by its slots."""
    found = []
    for slots in (32, 64, 128, 256, 512):
        made, capacity = made_for(figures, slots)
        instance = Instance(made, Times(figures, images))
        rate = 1.2 * capacity
        seen = simulate(
            [instance], arrivals(lambda _, r=rate: r, requests / rate), lambda all_: all_[0]
        )
        within = requests / rate  # what was answered until then
        ends = [at + s for at, s in zip(seen.arrived, seen.seconds, strict=True)]
        answered = sum(each <= within for each in ends) / within
        found.append(
            {
                "slots": slots,
                "answered": answered / capacity,
                "refused": seen.refused_share,
                "p50": seen.ms(50),
                "p99": seen.ms(99),
                "little": slots / capacity * 1000,
            }
        )
    return found


def hundred(figures: Figures, images: Sequence[float], requests: int) -> list[dict[str, object]]:
    """A hundred instances at 70 % of what they can do, by how requests get to them."""
    made, capacity = made_for(figures)
    sizing = Sizing(figures, p99=60.0, share=0.99)
    found: list[dict[str, object]] = []
    for away in (0, 10):
        count = INSTANCES - away
        rate = 0.7 * capacity * INSTANCES
        each = rate / count
        apart = sizing.engine(each).p99 + image_p99(each, figures.image_seconds, made.cores)
        free = count * capacity - rate
        waiting = erlang_c(count, rate / capacity)
        pooled = max(0.0, math.log(waiting / SHARE)) / free + LONGEST / capacity
        for name, choose in balancers().items():
            times = Times(figures, images)
            instances = [Instance(made, times) for _ in range(count)]
            seen = simulate(instances, arrivals(lambda _, r=rate: r, requests / rate), choose)
            found.append(
                {
                    "how": name,
                    "away": away,
                    "refused": seen.refused_share,
                    "p50": seen.ms(50),
                    "p99": seen.ms(99),
                    "formula": apart * 1000,
                    "pooled": pooled * 1000,
                }
            )
    return found


def autoscaled(figures: Figures, images: Sequence[float]) -> list[dict[str, float]]:
    """Half an hour in which four times as much comes, at once and then back, for ten minutes."""
    made, capacity = made_for(figures)
    low, high, seconds = 15.0, 60.0, 1800.0  # in instances at 70 %

    def rate(now: float) -> float:
        return 0.7 * capacity * (high if 300 <= now < 900 else low)

    sizing = Sizing(figures, p99=60.0, share=0.99)
    busy = 0.7 * capacity * sizing.engine(0.7 * capacity).mean
    found = []
    for target, start in itertools.product((busy, 2 * busy, SLOTS / 4), (30.0, 120.0)):
        times = Times(figures, images)
        instances = [Instance(made, times) for _ in range(int(low))]
        scaler = Autoscaler(
            instances,
            lambda ready, t=times: Instance(made, t, ready),
            target=target,
            start=start,
            least=2,
            most=INSTANCES,
        )
        seen = simulate(instances, arrivals(rate, seconds), balancers()["better of two"], scaler)
        calm = [s for s, at in zip(seen.seconds, seen.arrived, strict=True) if 600 <= at < 900]
        found.append(
            {
                "target": target,
                "start": start,
                "refused": seen.refused_share,
                "p50": seen.ms(50),
                "p99": seen.ms(99),
                "settled": percentile(calm, 99) * 1000,
                "peak": scaler.peak,
                "hours": scaler.instance_seconds / 3600,
                "fixed": high * seconds / 3600,
            }
        )
    return found


def number(value: object) -> str:
    """As it stands in a table."""
    if not isinstance(value, int | float):
        return str(value)
    return "∞" if math.isinf(value) else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def show(title: str, rows: Sequence[dict[str, object]] | Sequence[dict[str, float]]) -> None:
    """A table of what was found."""
    print(f"\n{title}\n")
    print(markdown(list(rows[0]), [[number(value) for value in row.values()] for row in rows]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figures", type=Path, required=True, help="of gsop size --measure")
    parser.add_argument("--slow", type=Path, help="of a slower model, for the autoscaler")
    parser.add_argument("--requests", type=int, default=200_000, help="of each simulation")
    parser.add_argument("--name", help="of the result's file; not written if empty")
    chosen = parser.parse_args(arguments)
    figures, images = Figures.read(chosen.figures), decode_seconds()
    made, capacity = made_for(figures)
    print(f"{figures.model}: {capacity:.0f} requests a second an instance of {asdict(made)}")
    found: dict[str, object] = {"setting": {k: str(v) for k, v in vars(chosen).items()}}
    for title, rows in (
        ("one instance", one_instance(figures, images, chosen.requests)),
        ("slots, at 120 %", slots_tried(figures, images, chosen.requests)),
        ("a hundred instances at 70 %", hundred(figures, images, 3 * chosen.requests)),
    ):
        show(title, rows)
        found[title] = rows
    if chosen.slow is not None:
        slow = Figures.read(chosen.slow)
        found["autoscaled"] = rows = autoscaled(slow, images)
        show(f"autoscaled, {slow.model}", rows)
    if chosen.name:
        print(f"saved {serve.save(chosen.name, found)}")


if __name__ == "__main__":
    main()

"""How much is needed for a rate and a latency, of what was measured. No clock, no service.

A request first wants a processor, for its image, and then a place in a batch of its engine. Both
are queues, for which arrivals are taken to be independent of each other (a Poisson process).

**Images** are an M/M/k queue: k processors, and service times that vary as much as an exponential
distribution's, which is more than one camera's images do. The share of requests that wait longer
than t is C(k, a)·exp(-(k - a)·t/c), where c is the mean processor time, a = rate·c, and C is
Erlang's second formula (A. K. Erlang, 1917). Other distributions multiply the wait by
(C_a² + C_s²)/2, of Allen and Cunneen (A. O. Allen, *Probability, Statistics, and Queueing Theory*,
2nd edition, 1990); here that is 1.

**A batch** is whatever waits when the device is free (:mod:`gsop.engine.scheduler`), so of a rate r
it has n = r·S(n) images on average, where S(n) is how long n take. A request that finds the device
busy, a share b = r·S(n)/n of them, waits for what is left of the batch in flight, and then takes as
long as its own; of batches larger than usual as the 99th percentile of a Poisson distribution is.
(The queue is that of Y. Inoue, *Queueing analysis of GPU-based inference servers with dynamic
batching*, Performance Evaluation 147, 2021, who bounds its mean.)

What is left out: the network, bursts, and that 99 of 100 waits of one kind are not 99 of 100 of
both, which makes the sum more than it will be. ``python -m benchmarks.simulation`` compares.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gsop.engine.times import BatchTimes
from gsop.errors import ConfigError

SHARE = 0.01
"""Of the requests, which may take longer than what is called p99."""

LONGEST = math.log(1 / SHARE)
"""The 99th percentile of exponentially distributed times, in means."""

MOST_ENGINES = 1_000_000


class Figures(BaseModel):
    """What was measured of one model on one kind of machine.

    Attributes:
        model: ``name/version``.
        device: of the engine, and its precision.
        computes_on_cores: whether the device is the machine's processors.
        machine: what it was measured on, for people.
        engine_cores: processors that a batch keeps busy.
        image_bytes: of the file that was sent.
        image_seconds: processor time that a request takes outside of the device.
        batches: seconds of single batches, by the number of their images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    device: str
    computes_on_cores: bool
    machine: str
    engine_cores: int = Field(ge=1)
    image_bytes: int = Field(ge=1)
    image_seconds: float = Field(gt=0)
    batches: Mapping[int, tuple[float, ...]] = Field(min_length=1)

    @classmethod
    def read(cls, file: Path) -> Self:
        """What ``gsop size --measure`` wrote.

        Raises:
            ConfigError: if it cannot be read, or is something else.
        """
        try:
            return cls.model_validate_json(file.read_bytes())
        except OSError as error:
            raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"])) or "its form"
            raise ConfigError(
                f"{file} holds no figures ({where}: {error.errors()[0]['msg']}): make a file of "
                "them with `gsop size --measure IMAGE --output FILE`"
            ) from None

    @property
    def times(self) -> BatchTimes:
        """As an engine would expect them."""
        times = BatchTimes()
        for size, seconds in self.batches.items():
            for each in seconds:
                times.learn(size, each)
        return times


@dataclass(frozen=True)
class Need:
    """What a rate needs. An instance has one device.

    Attributes:
        rate: requests a second, of one image each.
        instances: of which one may be away.
        image_cores: of an instance, for images.
        engine_cores: of an instance, for its engine.
        batch: images in a batch, on average.
        device_share: of what a device can do in full batches, how much is asked of it.
        core_share: how much of their time the cores for images work.
        p99: seconds that 99 of 100 requests take at most, with one instance away.
        in_use: slots of an instance that are in use on average, by Little's law.
        slots: that an instance should have.
    """

    rate: float
    instances: int
    image_cores: int
    engine_cores: int
    batch: float
    device_share: float
    core_share: float
    p99: float
    in_use: float
    slots: int

    @property
    def cores(self) -> int:
        """Of all instances."""
        return self.instances * (self.image_cores + self.engine_cores)


class Sizing:
    """Needs of one kind of machine.

    Args:
        figures: what was measured of it.
        p99: seconds that 99 of 100 requests may take.
        share: of what devices and cores can do, that is to be used at most.

    Raises:
        ConfigError: if no machine of that kind answers within ``p99``.
    """

    def __init__(self, figures: Figures, *, p99: float, share: float) -> None:
        self._figures, self._p99, self._share = figures, p99, share
        self._times = figures.times
        self._most = max(figures.batches)
        least = self._seconds(1) + LONGEST * figures.image_seconds
        if least >= p99:
            raise ConfigError(
                f"no number of machines answers within {p99 * 1000:g} ms: without any wait "
                f"{figures.model} on {figures.device} takes {least * 1000:.1f} ms, of which a "
                f"batch of one {self._seconds(1) * 1000:.1f}; allow more with --p99, or measure "
                "another device, precision or backend"
            )

    def need(self, rate: float) -> Need:
        """What so many requests a second need.

        Raises:
            ConfigError: if they need more than a million devices.
        """
        capacity = self._share * self._most / self._seconds(self._most)
        engines = max(1, math.ceil(rate / capacity))
        while engines <= MOST_ENGINES:
            found = self._try(rate, engines)
            if found is not None:
                return found
            engines = max(engines + 1, int(engines * 1.01))
        raise ConfigError(f"{rate:g} requests a second need more than {MOST_ENGINES} devices")

    def most(self) -> Need:
        """The most that one instance does in time, with ``instances`` 2 as one may be away."""
        capacity = self._share * self._most / self._seconds(self._most)
        tried = (self._try(capacity * percent / 100, 1) for percent in range(100, 0, -1))
        return next((need for need in tried if need is not None), self.need(1e-9))

    def _try(self, rate: float, engines: int) -> Need | None:
        """With so many engines; ``None`` if that is too slow."""
        each, image = rate / engines, self._figures.image_seconds
        batch = self.engine(each)
        cores = max(1, math.ceil(each * image / self._share))
        # Where cores are so many that nobody waits for one, more of them do not help.
        while (p99 := batch.p99 + image_p99(each, image, cores)) > self._p99:
            if erlang_c(cores, each * image) < SHARE:
                return None
            cores += 1
        used = each * (batch.mean + image_mean(each, image, cores))
        return Need(
            rate=rate,
            instances=engines + 1,
            image_cores=cores,
            engine_cores=self._figures.engine_cores,
            batch=batch.images,
            device_share=each * self._seconds(self._most) / self._most,
            core_share=each * image / cores,
            p99=p99,
            in_use=used,
            slots=max(2 * self._most, math.ceil(each * p99)),
        )

    def engine(self, rate: float) -> "Batch":
        """The batches of an engine that gets so many requests a second, less than it can bear."""
        images = next((n for n in range(1, self._most) if n >= rate * self._seconds(n)), self._most)
        seconds = self._seconds(images)
        busy = min(1.0, rate * seconds / images)
        large = self._seconds(min(self._most, max(1, poisson_p99(rate * seconds))))
        return Batch(
            images=max(1.0, rate * seconds),
            busy=busy,
            mean=seconds * (1 + busy / 2),
            p99=large + seconds * max(0.0, 1 - SHARE / busy) if busy else large,
        )

    def _seconds(self, images: int) -> float:
        return self._times.expect(images)


@dataclass(frozen=True)
class Batch:
    """What an engine does at some rate.

    Attributes:
        images: in a batch, on average.
        busy: the share of time that the device computes.
        mean: seconds from a slot to the answer, on average.
        p99: seconds that 99 of 100 take at most.
    """

    images: float
    busy: float
    mean: float
    p99: float


def erlang_c(servers: int, load: float) -> float:
    """The share of requests that have to wait, of ``load`` requests at work on average.

    Computed by Erlang's first formula, whose recursion loses no digits.
    """
    if load >= servers:
        return 1.0
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def image_mean(rate: float, seconds: float, cores: int) -> float:
    """Seconds that an image takes on average, its wait for a core included; below capacity."""
    load = rate * seconds
    return seconds * (1 + erlang_c(cores, load) / (cores - load))


def image_p99(rate: float, seconds: float, cores: int) -> float:
    """Seconds that 99 of 100 images take at most, their wait included; infinite above capacity."""
    load = rate * seconds
    if load >= cores:
        return math.inf
    waiting = erlang_c(cores, load)
    wait = math.log(waiting / SHARE) * seconds / (cores - load) if waiting > SHARE else 0.0
    return wait + LONGEST * seconds


def poisson_p99(mean: float) -> int:
    """The least number that 99 of 100 of a Poisson distribution's do not exceed."""
    if mean > 500:
        return math.ceil(mean + 2.3263 * math.sqrt(mean))
    number, chance = 0, math.exp(-mean)
    total = chance
    while total < 1 - SHARE:
        number += 1
        chance *= mean / number
        total += chance
    return number

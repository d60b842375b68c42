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
import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import bodies, models, serve
from benchmarks.fleet import (
    SLOTS,
    Autoscaler,
    Instance,
    Made,
    Times,
    arrivals,
    balancers,
    simulate,
)
from benchmarks.summary import markdown, percentile
from gsop.commands.sizing import LONGEST, SHARE, Figures, Sizing, erlang_c, image_p99
from gsop.images import decode

PHOTOGRAPHS = ((240, 180), (500, 375), (1000, 750))
DECODES = 40
"""Of each photograph."""

SHARES = (0.3, 0.5, 0.7, 0.8, 0.9, 1.2)
INSTANCES = 100


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


def autoscaled(figures: Figures, images: Sequence[float]) -> list[dict[str, object]]:
    """Half an hour in which four times as much comes for half of it, at once or by and by."""
    low, high, seconds = 15.0, 60.0, 1800.0  # in instances at 70 %
    made, capacity = made_for(figures)
    sizing = Sizing(figures, p99=60.0, share=0.99)
    busy = 0.7 * capacity * sizing.engine(0.7 * capacity).mean
    few = 2 * made.most

    def rate(now: float, rise: float) -> float:
        share = min(1.0, max(0.0, (now - 300) / rise)) if now < 1200 else 0.0
        return 0.7 * capacity * (low + (high - low) * share)

    found: list[dict[str, object]] = []
    tried = [*itertools.product((few, SLOTS), (busy, 2 * busy), (30.0,)), (few, busy, 120.0)]
    tried.append((SLOTS, SLOTS / 4, 30.0))
    for (slots, target, start), rise in itertools.product(tried, (1.0, 300.0)):
        times, kind = Times(figures, images), Made(made.cores, made.most, slots)
        instances = [Instance(kind, times) for _ in range(int(low))]
        scaler = Autoscaler(
            instances,
            lambda ready, t=times, k=kind: Instance(k, t, ready),
            target=target,
            start=start,
            least=2,
            most=INSTANCES,
        )
        comes = arrivals(lambda now, r=rise: rate(now, r), seconds)
        seen = simulate(instances, comes, balancers()["better of two"], scaler)
        calm = [s for s, at in zip(seen.seconds, seen.arrived, strict=True) if 900 <= at < 1200]
        found.append(
            {
                "slots": slots,
                "target": target,
                "start, s": start,
                "rise, s": rise,
                "refused": seen.refused_share,
                "p50": seen.ms(50),
                "p99": seen.ms(99),
                "p99 after": percentile(calm, 99) * 1000,
                "most": scaler.peak,
                "hours": scaler.instance_seconds / 3600,
                "of fixed": scaler.instance_seconds / (high * seconds),
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
    slow = Figures.read(chosen.slow) if chosen.slow is not None else None
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
    if slow is not None:
        found["autoscaled"] = rows = autoscaled(slow, images)
        show(f"autoscaled, {slow.model}", rows)
    if chosen.name:
        print(f"saved {serve.save(chosen.name, found)}")


if __name__ == "__main__":
    main()

"""How often a healthy canary is rolled back, and how soon a broken one: rollouts in simulation.

    python -m benchmarks.rollback

Requests fail by chance, at a rate for the stable version and one for the canary. After every 50 of
the canary's the rule is asked, up to 5000, as a service asks it every second. Beside the service's
rule stand two that suggest themselves. Nothing is measured in seconds: the same figures come out on
every machine.
"""

import argparse
from collections.abc import Callable, Iterator
from statistics import median
from typing import NamedTuple

import numpy as np

from benchmarks.summary import markdown
from gsop.serving.judge import LIMIT, Seen, log_ratio

EVERY = 50
MOST = 5000

Rule = Callable[[Seen, Seen], bool]
"""Whether a canary is to be rolled back: by what the stable version did, and what it did."""


class Case(NamedTuple):
    """A rollout: the rates at which versions fail, and the canary's percentage."""

    stable: float
    canary: float
    percent: float


def by_ratio(stable: Seen, canary: Seen) -> bool:
    """The service's rule."""
    return log_ratio(stable, canary) >= np.log(LIMIT)


def twice(stable: Seen, canary: Seen) -> bool:
    """Twice the stable version's rate."""
    return canary.failed / canary.answered > 2 * max(0.001, stable.failed / stable.answered)


def three_errors(stable: Seen, canary: Seen) -> bool:
    """More than three standard errors above the stable version."""
    usual, its = stable.failed / stable.answered, canary.failed / canary.answered
    both = (stable.failed + canary.failed) / (stable.answered + canary.answered)
    error = np.sqrt(both * (1 - both) * (1 / stable.answered + 1 / canary.answered))
    return bool(error and (its - usual) / error > 3)


RULES: dict[str, Rule] = {
    "sequential ratio": by_ratio,
    "twice the errors": twice,
    "z > 3 at a look": three_errors,
}


def rollout(case: Case, chance: np.random.Generator) -> Iterator[tuple[Seen, Seen]]:
    """What both versions did until each look."""
    none = np.zeros(0)
    stable = canary = Seen(0, 0, 0, none)
    beside = round(EVERY * (100 - case.percent) / case.percent)
    while canary.answered < MOST:
        stable = stable._replace(
            answered=stable.answered + beside,
            failed=stable.failed + int(chance.binomial(beside, case.stable)),
        )
        canary = canary._replace(
            answered=canary.answered + EVERY,
            failed=canary.failed + int(chance.binomial(EVERY, case.canary)),
        )
        yield stable, canary


def stopped(case: Case, rule: Rule, rollouts: int, seed: int) -> list[int]:
    """The canary's requests until it was rolled back, of those rollouts in which it was."""
    chance = np.random.default_rng(seed)
    found = []
    for _ in range(rollouts):
        for stable, canary in rollout(case, chance):
            if rule(stable, canary):
                found.append(canary.answered)
                break
    return found


def main(arguments: list[str] | None = None) -> None:
    """Simulate, and print a table for healthy canaries and one for broken ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rollouts", type=int, default=1000)
    chosen = parser.parse_args(arguments)
    healthy, broken = [], []
    for percent in (5.0, 20.0, 50.0):
        for rate in (0.001, 0.01):
            cells = [f"{percent:g} %, both {100 * rate:g} %"]
            for rule in RULES.values():
                found = stopped(Case(rate, rate, percent), rule, chosen.rollouts, seed=1)
                cells.append(f"{100 * len(found) / chosen.rollouts:.1f} %")
            healthy.append(cells)
            for worse in (0.005, 0.02, 1 - rate):
                case = Case(rate, rate + worse, percent)
                count = min(chosen.rollouts, 200)
                found = stopped(case, by_ratio, count, seed=2)
                broken.append(
                    [
                        f"{percent:g} %, {100 * rate:g} % → {100 * case.canary:g} %",
                        f"{100 * len(found) / count:.0f} %",
                        f"{median(found):.0f}" if found else "–",
                    ]
                )
    print(f"{chosen.rollouts} rollouts each, a look every {EVERY} of the canary's {MOST} requests")
    print(markdown(["healthy ones rolled back", *RULES], healthy))
    print()
    print(markdown(["worse ones (share, rates)", "rolled back", "requests until then"], broken))


if __name__ == "__main__":
    main()

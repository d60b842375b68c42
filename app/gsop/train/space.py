"""What a search varies: ``KEY=VALUES`` of a recipe, as data."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gsop.errors import ConfigError
from gsop.train.recipe import Recipe

SHAPE = "KEY=LOW..HIGH, KEY=log:LOW..HIGH or KEY=VALUE,VALUE,..."


@dataclass(frozen=True)
class Between:
    """Numbers from one to another, whole ones if both ends are; ``log`` by their logarithm."""

    low: float
    high: float
    log: bool
    whole: bool


@dataclass(frozen=True)
class OneOf:
    """Some values, each as JSON."""

    values: tuple[str, ...]


Space = Mapping[str, Between | OneOf]
"""By the recipe's keys, as ``optimizer.learning_rate``."""


def usual_space(recipe: Recipe) -> Space:
    """What is worth varying in any recipe: the learning rate and the decay of the weights."""
    rate = recipe.optimizer.learning_rate
    return {
        "optimizer.learning_rate": Between(rate / 10, rate * 10, log=True, whole=False),
        "optimizer.weight_decay": Between(1e-4, 0.3, log=True, whole=False),
    }


def read_space(texts: Sequence[str]) -> Space:
    """A space from the words of the command line.

    Raises:
        ConfigError: if one says nothing that can be varied.
    """
    found: dict[str, Between | OneOf] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        if not key or not equals or not values:
            raise ConfigError(f"--vary {text}: write {SHAPE}")
        found[key] = _between(text, values) if ".." in values else _one_of(text, values)
    return found


def as_values(space: Space) -> dict[str, Any]:
    """A space as plain values, to be compared with another."""
    return {
        key: list(one.values)
        if isinstance(one, OneOf)
        else [one.low, one.high, "log" if one.log else "", "whole" if one.whole else ""]
        for key, one in space.items()
    }


def _between(text: str, values: str) -> Between:
    ends, log = values.removeprefix("log:"), values.startswith("log:")
    try:
        low, high = (float(end) for end in ends.split(".."))
    except ValueError:
        raise ConfigError(f"--vary {text}: {ends} is no LOW..HIGH; write {SHAPE}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high and (low > 0 or not log)):
        raise ConfigError(
            f"--vary {text}: the lower end comes first, both are finite, and of `log:` both above 0"
        )
    whole = not any(sign in ends.replace("..", " ") for sign in ".e")
    return Between(low, high, log=log, whole=whole)


def _one_of(text: str, values: str) -> OneOf:
    parts = tuple(values.split(","))
    if len(set(parts)) < 2:
        raise ConfigError(f"--vary {text}: one value varies nothing; write {SHAPE}")
    return OneOf(tuple(part if _is_json(part) else json.dumps(part) for part in parts))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True

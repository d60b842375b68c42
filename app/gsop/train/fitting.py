"""Presets fitted to a short run and to few images; what somebody has set himself stays as it is."""

import json
from collections.abc import Collection

from gsop.train.recipe import Recipe


def fit_schedule(recipe: Recipe, length: float, given: Collection[str]) -> dict[str, float]:
    """What has to be shorter in a run of ``length``, by the recipe's keys.

    Args:
        recipe: a preset, with its own length.
        length: what the run is to last instead, as the recipe counts it.
        given: keys that are set to something, and stay so.

    Returns:
        Warmups that would leave nothing of the run, at the share of it that they had.
    """
    schedule = recipe.schedule
    own = schedule.epochs or schedule.steps or length
    return {
        f"schedule.{name}": value * length / own
        for name in ("warmup", "gate_warmup")
        if f"schedule.{name}" not in given and (value := getattr(schedule, name)) >= length
    }


def fit_batch(batch_size: int, images: int, shares: int) -> int:
    """The batch size for as many training images, which may be fewer than a batch.

    Args:
        batch_size: wanted.
        images: to train on.
        shares: parts that a batch is divided into.
    """
    return batch_size if images >= batch_size else max(shares, images // shares * shares)


def assigned(assignments: Collection[str], key: str) -> float | None:
    """The number that the last of the ``KEY=VALUE`` gives to ``key``, if there is one."""
    found = None
    for assignment in assignments:
        name, _, text = assignment.partition("=")
        if name != key:
            continue
        try:
            found = float(json.loads(text))
        except (ValueError, TypeError):
            found = None
    return found

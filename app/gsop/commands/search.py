"""``gsop search``: look for a better recipe."""

import csv
import io
import signal
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from gsop.commands.train import RUNS, initial_of, resolve
from gsop.errors import ConfigError
from gsop.settings import Settings
from gsop.train.checkpoint import write_whole
from gsop.train.loop import Stopped
from gsop.train.search import BEST, Found, Pruning, search
from gsop.train.space import read_space, usual_space

SHOWN = 5
"""Trials that are printed at the end."""


def run(
    settings: Settings,
    *,
    recipe: str,
    data: Path | None,
    assignments: Sequence[str],
    vary: Sequence[str],
    trials: int,
    pruning: Pruning,
    folder: Path | None,
    progress: bool,
) -> int:
    """Try variations of a recipe, and keep the best one's.

    Args:
        settings: where to compute.
        recipe: as :func:`gsop.commands.train.resolve` takes it, and so are the next two.
        data: the images.
        assignments: values of the recipe.
        vary: what is varied, as :func:`gsop.train.space.read_space` reads it; the learning rate and
            the decay of the weights if empty.
        trials: how many in all, those of earlier calls included.
        pruning: which trials end early.
        folder: of the search; ``runs/RECIPE-search`` if absent.
        progress: whether to tell each trial on the standard error.

    Returns:
        The exit status: 0, or 128 and the number of the signal that stopped it.

    Raises:
        SetupError: as :func:`gsop.train.search.search` does.
    """
    resolved = resolve(recipe, data, assignments)
    space = read_space(vary) or usual_space(resolved)
    folder = folder or RUNS / f"{resolved.name}-search"
    console = Console(stderr=True, quiet=not progress, highlight=False, soft_wrap=True)
    try:
        found = search(
            resolved,
            folder,
            space,
            trials=trials,
            pruning=pruning,
            device=settings.devices[0],
            initial=initial_of,
            report=lambda one: console.print(_told(one), markup=False),
        )
    except Stopped as stopped:
        name = signal.Signals(stopped.signal).name
        print(f"{name}: stopped within a trial; the same command goes on with it")
        return 128 + stopped.signal
    write_whole(folder / "search.csv", as_csv(found, list(space)).encode())
    if not found or found[0].state != "complete":
        raise ConfigError(
            f"none of {len(found)} trials came to its end: --vary lower learning rates, or ask for "
            "more --trials"
        )
    for one in found[:SHOWN]:
        print(_told(one))
    print(
        f"the best of {len(found)} is {folder / found[0].folder}: publish it with `gsop publish "
        f"{folder / found[0].folder} --name {resolved.name}`, or train by its recipe with "
        f"`gsop train --recipe {folder / BEST}`"
    )
    return 0


def as_csv(found: Sequence[Found], keys: Sequence[str]) -> str:
    """A line a trial."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("trial", "state", "held_out_loss", "looks", *keys))
    for one in found:
        loss = "" if one.loss is None else f"{one.loss:.6g}"
        lines.writerow((one.number, one.state, loss, one.looks, *map(one.values.get, keys)))
    return text.getvalue()


def _told(one: Found) -> str:
    loss = "no look" if one.loss is None else f"held-out loss {one.loss:.4f}"
    values = ", ".join(
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in one.values.items()
    )
    return f"trial {one.number:3}  {one.state:8}  {loss}  {values}"

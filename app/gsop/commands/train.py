"""``gsop train``: from a recipe and a folder of images to a run."""

import json
import signal
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

from gsop.commands.models.init import on_backbone
from gsop.model.resnet import GSoPResNet
from gsop.settings import Settings, torchrun_layout
from gsop.train.loop import Stopped, train
from gsop.train.overrides import find_recipe, override
from gsop.train.recipe import Recipe
from gsop.train.run import Run

RUNS = Path("runs")
"""Where a run goes that is given no folder."""


def run(
    settings: Settings,
    *,
    recipe: str,
    data: Path | None,
    values: Mapping[str, object],
    assignments: Sequence[str],
    folder: Path | None,
    resume: Path | None,
    show: bool,
    progress: bool,
) -> int:
    """Begin a run, go on with the one in the folder ``resume``, or only show the recipe.

    ``values`` are of the recipe, by their keys; ``assignments`` win over them. All else is as in
    :func:`resolve` and :func:`begin`, and so are the exit status and what is raised.
    """
    device = settings.devices[0]
    if resume is not None:
        return go_on(resume, device=device, progress=progress)
    changes = [*(f"{key}={value}" for key, value in values.items()), *assignments]
    resolved = resolve(recipe, data, changes)
    if show:
        print(resolved.model_dump_json(indent=2))
        return 0
    return begin(resolved, folder, device=device, progress=progress)


def resolve(reference: str, data: Path | None, assignments: Sequence[str]) -> Recipe:
    """The recipe as it will be used.

    Args:
        reference: a preset, or a file of values.
        data: where the images are, in place of the recipe's ``data.path``.
        assignments: ``key=value`` each, over the recipe.

    Raises:
        ConfigError: if they make no recipe.
    """
    if data is not None:
        assignments = [f"data.path={json.dumps(str(data.absolute()))}", *assignments]
    return override(find_recipe(reference), assignments)


def begin(recipe: Recipe, folder: Path | None, *, device: str, progress: bool) -> int:
    """Begin a run.

    Args:
        recipe: what to train, on what, and how.
        folder: the run's; the next of the recipe's name under ``runs/`` if absent.
        device: where to train.
        progress: whether to draw a progress bar.

    Returns:
        The exit status: 0, or 128 and the number of the signal that stopped the run.

    Raises:
        SetupError: as :func:`gsop.train.loop.train` does.
    """
    folder = folder or _next_folder(recipe.name)
    return _train(recipe, folder, resume=False, device=device, progress=progress)


def go_on(folder: Path, *, device: str, progress: bool) -> int:
    """Go on with the run in ``folder``; the rest is as in :func:`begin`."""
    return _train(Run(folder).recipe, folder, resume=True, device=device, progress=progress)


def _train(recipe: Recipe, folder: Path, *, resume: bool, device: str, progress: bool) -> int:
    try:
        result = train(
            recipe,
            folder,
            initial=_initial(recipe),
            resume=resume,
            device=device,
            progress=progress,
        )
    except Stopped as stopped:
        name = signal.Signals(stopped.signal).name
        _say(f"{name}: {stopped}; go on with `gsop train --resume {folder}`")
        return 128 + stopped.signal
    _say(
        f"{folder}: {result.top1:.2%} of {result.held_out} held-out images right after "
        f"{result.steps} steps in {result.seconds:.0f} s, {result.waiting:.0%} of them waiting "
        f"for data\npublish it with `gsop publish {folder} --name {recipe.name}`"
    )
    return 0


def _say(text: str) -> None:
    """Once, however many processes train."""
    layout = torchrun_layout()
    if layout is None or layout.rank == 0:
        print(text)


def _initial(recipe: Recipe) -> GSoPResNet | None:
    if recipe.backbone is None:
        return None
    classes = len(recipe.open_data().labels)
    return on_backbone(recipe.backbone, recipe.for_classes(classes).config)


def _next_folder(name: str) -> Path:
    return next(folder for number in count(1) if not (folder := RUNS / f"{name}-{number}").exists())

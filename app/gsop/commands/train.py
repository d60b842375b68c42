"""``gsop train``: from a recipe and a folder of images to a run."""

import json
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from itertools import count, islice
from pathlib import Path

from gsop.commands.models.init import TORCHVISION, on_backbone
from gsop.environment import torchrun_layout
from gsop.errors import ConfigError
from gsop.model.resnet import GSoPResNet
from gsop.paths import check_folder
from gsop.settings import Settings
from gsop.train.fitting import assigned, fit_batch, fit_schedule
from gsop.train.loop import Stopped, train
from gsop.train.overrides import find_recipe, override
from gsop.train.presets import PRESETS
from gsop.train.range_test import range_test, write_range_test
from gsop.train.recipe import Recipe
from gsop.train.run import Run

RUNS = Path("runs")
"""Where a run goes that is given no folder."""

_CHANGEABLE = frozenset(
    (
        *("schedule.epochs", "schedule.steps", "schedule.patience"),
        *("log_every", "checkpoint_every", "workers", "max_broken", "trackers"),
    )
)
"""What may become another value within a run: its weights so far would have been the same."""


def run(
    settings: Settings,
    *,
    recipe: str,
    data: Path | None,
    values: Mapping[str, object],
    assignments: Sequence[str],
    folder: Path | None,
    resume: Path | None,
    track: Sequence[str],
    show: bool,
    find_lr: bool,
    progress: bool,
) -> int:
    """Begin a run, go on with the one in the folder ``resume``, or do something short of that.

    That is to show the recipe (``show``), or to look for its learning rate (``find_lr``).
    ``values`` are of the recipe, by their keys, and ``track`` its trackers; ``assignments`` win
    over them. All else is as in :func:`resolve`, :func:`begin` and :func:`find_rate`, and so are
    the exit status and what is raised.
    """
    device = settings.devices[0]
    changes = [*(f"{key}={json.dumps(value)}" for key, value in values.items()), *assignments]
    if track:
        changes.insert(0, f"trackers={json.dumps(track)}")
    if resume is not None and find_lr:
        raise ConfigError("a run's learning rate cannot change: leave --resume or --find-lr out")
    if resume is not None:
        return go_on(resume, data, changes, device=device, progress=progress)
    resolved = resolve(recipe, data, changes)
    if show:
        print(resolved.model_dump_json(indent=2))
        return 0
    if find_lr:
        return find_rate(resolved, folder, device=device)
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
    recipe = find_recipe(reference)
    given = {text.partition("=")[0] for text in assignments}
    preset = reference in PRESETS
    if data is not None:
        assignments = [*_at(data), *assignments]
    if preset:
        assignments = [*_shorter(recipe, assignments, given), *assignments]
    recipe = override(recipe, assignments)
    if recipe.data.path is not None and not recipe.data.path.is_absolute():
        # The run may go on from another folder.
        recipe = override(recipe, _at(recipe.data.path))
    if recipe.backbone not in (None, TORCHVISION):
        recipe = recipe.model_copy(update={"backbone": str(Path(recipe.backbone).absolute())})
    path = recipe.data.path
    if preset and "batch_size" not in given and path is not None and path.is_dir():
        recipe = _smaller(recipe, path)
    return recipe


def _at(data: Path) -> list[str]:
    return [f"data.path={json.dumps(str(data.absolute()))}"]


def _shorter(recipe: Recipe, assignments: Sequence[str], given: Collection[str]) -> list[str]:
    """A preset's warmups for the length that is given, if they do not fit into it."""
    unit = "steps" if recipe.schedule.epochs is None else "epochs"
    length = assigned(assignments, f"schedule.{unit}")
    if length is None or length <= 0:
        return []
    fitted = fit_schedule(recipe, length, given)
    for key, value in fitted.items():
        _note(f"{key} is {value:.3g} {unit}, to fit into {length:g}; --set {key}=N sets it")
    return [f"{key}={value}" for key, value in fitted.items()]


def _smaller(recipe: Recipe, path: Path) -> Recipe:
    """A preset with a batch that as few images as there are can fill."""
    enough = 4 * recipe.batch_size  # most of a folder is trained on, and nearly all are images
    if sum(1 for _ in islice(path.rglob("*"), enough)) == enough:
        return recipe
    images = len(recipe.open_data())
    layout = torchrun_layout()
    shares = recipe.accumulate * (1 if layout is None else layout.processes * layout.machines)
    size = fit_batch(recipe.batch_size, images, shares)
    if size == recipe.batch_size:
        return recipe
    _note(f"batch_size is {size}, as there are {images} images to train on; --batch-size N sets it")
    return override(recipe, [f"batch_size={size}"])


def _note(text: str) -> None:
    layout = torchrun_layout()
    if layout is None or layout.rank == 0:
        print(f"gsop train: {text}", file=sys.stderr)


def find_rate(recipe: Recipe, folder: Path | None, *, device: str) -> int:
    """Look for a recipe's learning rate by a range test; trains nothing that is kept.

    Args:
        recipe: what to train, on what, and how.
        folder: for ``lr.png`` and ``lr.json``; the next of the recipe's name under ``runs/`` if
            absent.
        device: where to compute.

    Raises:
        ConfigError: as :func:`gsop.train.range_test.range_test` does.
    """
    folder = folder or _next_folder(f"{recipe.name}-lr")
    check_folder(folder)
    found = range_test(recipe, initial=initial_of(recipe), device=device)
    picture = write_range_test(found, folder)
    print(
        f"suggested learning rate: {found.suggestion:.1e} (the recipe's is "
        f"{recipe.optimizer.learning_rate:.1e})\n"
        f"the loss falls fastest at {found.steepest:.1e}, and grows from {found.bound:.1e} on: "
        f"see {picture}\n"
        f"train with it by --learning-rate {found.suggestion:.1e}"
    )
    return 0


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


def go_on(
    folder: Path,
    data: Path | None = None,
    assignments: Sequence[str] = (),
    *,
    device: str,
    progress: bool,
) -> int:
    """Go on with the run in ``folder``; the rest is as in :func:`begin`.

    Args:
        folder: the run's.
        data: where its images are now, if they are elsewhere.
        assignments: ``key=value`` each: more epochs, or what changes no weights.
        device: where to train.
        progress: whether to draw a progress bar.

    Raises:
        ConfigError: if a value cannot change within a run, or what remains is no longer.
        SetupError: as :func:`gsop.train.loop.train` does.
    """
    run = Run(folder)
    recipe = run.recipe
    if data is not None or assignments:
        for key in (text.partition("=")[0] for text in assignments):
            if key not in _CHANGEABLE:
                raise ConfigError(
                    f"{key} cannot change within a run: leave it out, or start a run of its own; "
                    f"--resume takes {', '.join(sorted(_CHANGEABLE))} and --data"
                )
        layout = torchrun_layout()
        if layout is not None and layout.processes * layout.machines > 1:
            raise ConfigError(
                "several processes go on with a run as it is: change its recipe.json before"
            )
        recipe = override(recipe, [*(_at(data) if data is not None else ()), *assignments])
        run.change(recipe)
    return _train(recipe, folder, resume=True, device=device, progress=progress)


def _train(recipe: Recipe, folder: Path, *, resume: bool, device: str, progress: bool) -> int:
    try:
        result = train(
            recipe,
            folder,
            initial=initial_of(recipe),
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


def initial_of(recipe: Recipe) -> GSoPResNet | None:
    """The weights that a recipe starts from, for its data's classes; ``None`` if from none."""
    if recipe.backbone is None:
        return None
    classes = len(recipe.open_data().labels)
    return on_backbone(recipe.backbone, recipe.for_classes(classes).config)


def _next_folder(name: str) -> Path:
    return next(folder for number in count(1) if not (folder := RUNS / f"{name}-{number}").exists())

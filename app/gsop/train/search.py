"""Looking for a better recipe: trial after trial, each a run of its own, by Optuna.

A search is a folder. Its ``study.log`` holds every trial and is written to by whoever takes part:
the same command started a second time, on this machine or on one that shares the folder, takes the
next trial. What was stopped goes on where its run was. Trials are judged by the least loss on
held-out images, and those that fall behind others at the same look end there.
"""

import json
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from gsop.errors import ConfigError
from gsop.model.resnet import GSoPResNet
from gsop.train.checkpoint import newest_step, write_whole
from gsop.train.evaluate import Score
from gsop.train.log import read_log
from gsop.train.loop import Stopped, train
from gsop.train.overrides import override
from gsop.train.recipe import Recipe
from gsop.train.run import Run
from gsop.train.space import Between, Space, as_values
from gsop.train.watch import Diverged

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial

Pruning = Literal["median", "hyperband", "none"]
"""Which trials end early: those worse than the median of the earlier ones at the same look (after
five that were not); those that Hyperband (arXiv 1603.06560) gives no more looks; none."""

FREE_TRIALS: Final = 5
"""Trials that the median pruner lets come to their end, so that there is a median."""

STUDY, SEARCH, BEST = "study.log", "search.json", "best.json"

_FOLDER, _OWNER = "folder", "owner"


@dataclass(frozen=True)
class Found:
    """One trial.

    Attributes:
        number: from 0.
        state: ``complete``, ``pruned``, ``running`` or ``fail``.
        loss: the least on held-out images that it saw; ``None`` if it saw none.
        looks: at the held-out images.
        values: by the recipe's keys.
        folder: its run's name.
    """

    number: int
    state: str
    loss: float | None
    looks: int
    values: dict[str, Any]
    folder: str


def search(
    recipe: Recipe,
    folder: Path,
    space: Space,
    *,
    trials: int,
    pruning: Pruning,
    device: str,
    initial: Callable[[Recipe], GSoPResNet | None],
    report: Callable[[Found], None],
) -> list[Found]:
    """Try recipes until the search in ``folder`` has so many trials that came to an end.

    Args:
        recipe: what all trials have in common.
        folder: of the search; made, or gone on with.
        space: what is varied.
        trials: how many in all, pruned ones included.
        pruning: which end early.
        device: where to train.
        initial: the weights that a recipe starts from.
        report: called with each trial that ended.

    Returns:
        All trials, the best first.

    Raises:
        ConfigError: if Optuna is not installed, the folder holds another search, or a recipe does
            not work.
        SetupError: as :func:`gsop.train.loop.train` does, unless a loss is not finite: that trial
            has lost, and the next one begins.
        Stopped: on SIGTERM or SIGINT, after a checkpoint of the trial's run.
    """
    study = _open(recipe, folder, space)
    _take_up_again(study)
    while sum(one.state in ("complete", "pruned") for one in found_in(study)) < trials:
        # A sampler that begins anew with the same seed draws the same again: it goes by the count.
        tried = len(study.get_trials(deepcopy=False))
        study.sampler = _optuna().samplers.TPESampler(seed=recipe.seed + tried, constant_liar=True)
        study.pruner = _pruner(pruning)
        trial = study.ask()
        report(_try(study, trial, recipe, folder, space, device=device, initial=initial))
        _write_best(study, folder)
    return found_in(study)


def found_in(study: "Study") -> list[Found]:
    """All trials: those that came to their end by their loss, then the others."""
    found = [_as_found(trial) for trial in study.get_trials(deepcopy=False)]
    last = float("inf")
    return sorted(found, key=lambda f: (f.state != "complete", last if f.loss is None else f.loss))


def _try(
    study: "Study",
    trial: "Trial",
    recipe: Recipe,
    folder: Path,
    space: Space,
    *,
    device: str,
    initial: Callable[[Recipe], GSoPResNet | None],
) -> Found:
    """One trial, to its end."""
    pruned, state = _optuna().TrialPruned, _optuna().trial.TrialState
    trial.set_user_attr(_OWNER, [socket.gethostname(), os.getpid()])
    name = trial.user_attrs.get(_FOLDER) or f"trial-{trial.number:03}"
    trial.set_user_attr(_FOLDER, name)
    run = folder / name
    changes = [f"{key}={_drawn(trial, key, space)}" for key in space]
    looks = 0
    for looks, loss in enumerate(_seen_before(run), start=1):
        trial.report(loss, looks)

    def on_look(step: int, score: Score) -> None:
        nonlocal looks
        looks += 1
        trial.report(score.loss, looks)
        if trial.should_prune():
            raise pruned

    try:
        changed = override(recipe, [*changes, f"name={name}"])
        result = train(
            changed,
            run,
            initial=initial(changed),
            resume=(run / "recipe.json").exists(),
            device=device,
            progress=False,
            on_look=on_look,
        )
    except Stopped:
        study.tell(trial, state=state.FAIL)
        _again(study, trial.params, name)
        raise
    except (pruned, Diverged):
        study.tell(trial, state=state.PRUNED)
        shutil.rmtree(run, ignore_errors=True)  # it is never gone on with
    except BaseException:
        study.tell(trial, state=state.FAIL)
        raise
    else:
        study.tell(trial, result.best_loss)
        shutil.rmtree(Run(run).checkpoints, ignore_errors=True)
    return _as_found(study.get_trials(deepcopy=False)[trial.number])


def _seen_before(run: Path) -> list[float]:
    """The held-out losses up to where a run goes on, if it was begun."""
    log, last = read_log(run), newest_step(run / "checkpoints")
    rows = zip(log.get("step", ()), log.get("held_out_loss", ()), strict=True)
    return [loss for step, loss in rows if loss is not None and step is not None and step <= last]


def _drawn(trial: "Trial", key: str, space: Space) -> str:
    """A value for the key, as JSON."""
    one = space[key]
    if not isinstance(one, Between):
        return str(trial.suggest_categorical(key, one.values))
    if one.whole:
        return str(trial.suggest_int(key, int(one.low), int(one.high), log=one.log))
    return repr(trial.suggest_float(key, one.low, one.high, log=one.log))


def _open(recipe: Recipe, folder: Path, space: Space) -> "Study":
    """The study in the folder, which is made if there is none."""
    optuna = _optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    override(recipe, [])  # says at once if it is none
    what = {"recipe": recipe.model_dump(mode="json"), "space": as_values(space)}
    file = folder / SEARCH
    try:
        if not file.exists():
            write_whole(file, (json.dumps(what, indent=2) + "\n").encode())
        elif json.loads(file.read_text(encoding="utf-8")) != what:
            raise ConfigError(
                f"{folder} holds a search of another recipe, data or --vary: repeat its own "
                f"({file} has them), or choose another folder with --output"
            )
    except (OSError, ValueError) as error:
        raise ConfigError(f"the search's folder cannot be used: {error}") from error
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(folder / STUDY))
    )
    study: Study = optuna.create_study(
        storage=storage, study_name="gsop", direction="minimize", load_if_exists=True
    )
    return study


def _take_up_again(study: "Study") -> None:
    """Put trials back whose process on this machine is gone without a word."""
    state = _optuna().trial.TrialState
    for trial in study.get_trials(deepcopy=False, states=(state.RUNNING,)):
        host, process = trial.user_attrs.get(_OWNER, (None, 0))
        if host == socket.gethostname() and not _is_alive(process):
            study.tell(trial.number, state=state.FAIL)
            _again(study, trial.params, trial.user_attrs.get(_FOLDER))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return process != os.getpid()


def _again(study: "Study", values: dict[str, Any], name: str | None) -> None:
    """Have the next trial be one that was begun, in the folder of its run."""
    if values:
        study.enqueue_trial(values, user_attrs={_FOLDER: name})


def _write_best(study: "Study", folder: Path) -> None:
    """Write the best trial's recipe, which `gsop train --recipe` takes."""
    best = next((one for one in found_in(study) if one.state == "complete"), None)
    if best is not None:
        recipe = json.loads((folder / best.folder / "recipe.json").read_text(encoding="utf-8"))
        write_whole(folder / BEST, (json.dumps(recipe, indent=2) + "\n").encode())


def _pruner(pruning: Pruning) -> "BasePruner":
    pruners = _optuna().pruners
    found: BasePruner
    if pruning == "median":
        found = pruners.MedianPruner(n_startup_trials=FREE_TRIALS, n_warmup_steps=1)
    else:
        found = pruners.HyperbandPruner() if pruning == "hyperband" else pruners.NopPruner()
    return found


def _as_found(trial: "FrozenTrial") -> Found:
    seen = [*trial.intermediate_values.values(), *([] if trial.value is None else [trial.value])]
    return Found(
        number=trial.number,
        state=trial.state.name.lower(),
        loss=min(seen, default=None),
        looks=len(trial.intermediate_values),
        values=dict(trial.params),
        folder=trial.user_attrs.get(_FOLDER) or "",
    )


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(
            "recipes are searched with Optuna, which is not installed: pip install '.[search]'"
        ) from error
    return optuna

"""Where else a run is told of, besides its folder: one small face, and who has it.

TensorBoard is always there. MLflow and Weights & Biases are asked for by the recipe's ``trackers``;
where their servers are, and who may write to them, is theirs to know (``MLFLOW_TRACKING_URI``,
``WANDB_PROJECT``, ``WANDB_MODE``, …). What a tracker calls a run is kept beside it, so that a run
that goes on goes on there too. A tracker that fails costs its curves, and never the training.
"""

import importlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from gsop.environment import mlflow_experiment, wandb_project
from gsop.errors import ConfigError
from gsop.train.checkpoint import write_whole
from gsop.train.recipe import Recipe, TrackerName

FILE: Final = "trackers.json"
"""Which run a tracker has for this one, by the tracker's name."""

KEPT: Final = ("recipe.json", "data.json", "preview.png", "curves.png", "gates.png", "result.json")
"""Files of a run that a tracker gets at its end; weights stay where they are."""

MLFLOW_AT_A_TIME: Final = 100
"""Parameters that MLflow takes in one call."""


class Tracker(Protocol):
    """Who is told of a run."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Values by name, after so many steps."""

    def close(self, files: tuple[Path, ...], *, finished: bool) -> None:
        """Nothing more comes, for now.

        Args:
            files: that the run ended with.
            finished: whether it has come to its end, or may go on.
        """


class TensorBoard:
    """The run as TensorBoard's event files.

    Args:
        folder: to write them to.
        step: steps done already; what earlier files say of later ones is hidden.

    Raises:
        ConfigError: if TensorBoard is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                "training writes its curves with TensorBoard, which is not installed: "
                "pip install '.[train]'"
            ) from error
        self._writer: Any = SummaryWriter(str(folder), purge_step=step + 1)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See :meth:`Tracker.log`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self, files: tuple[Path, ...], *, finished: bool) -> None:
        """See :meth:`Tracker.close`."""
        self._writer.close()


class MLflow:
    """The run as one of MLflow's, in the experiment ``MLFLOW_EXPERIMENT_NAME`` or ``gsop``.

    Args:
        known: what MLflow calls it; ``None`` begins one.
        folder: the run's, for its name.
        recipe: its parameters.
    """

    def __init__(self, known: str | None, folder: Path, recipe: Recipe) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client: Any = MlflowClient()
        if known is not None:
            self.id = known
            self._client.update_run(known, status="RUNNING")  # an earlier part had ended it
            return
        name = mlflow_experiment()
        experiment = self._client.get_experiment_by_name(name)
        number = (
            self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        )
        self.id = self._client.create_run(number, run_name=folder.name).info.run_id
        values = [Param(key, str(value)) for key, value in flat(recipe).items()]
        for first in range(0, len(values), MLFLOW_AT_A_TIME):
            self._client.log_batch(self.id, params=values[first : first + MLFLOW_AT_A_TIME])

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See :meth:`Tracker.log`."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self.id, metrics=metrics)

    def close(self, files: tuple[Path, ...], *, finished: bool) -> None:
        """See :meth:`Tracker.close`."""
        for file in files:
            self._client.log_artifact(self.id, str(file))
        self._client.set_terminated(self.id, "FINISHED" if finished else "KILLED")


class WeightsAndBiases:
    """The run as one of Weights & Biases', in the project ``WANDB_PROJECT`` or ``gsop``.

    Args:
        known: what it is called there; ``None`` begins one.
        folder: the run's, for its name, and for what is not sent yet.
        recipe: its configuration.
    """

    def __init__(self, known: str | None, folder: Path, recipe: Recipe) -> None:
        import wandb

        self._run: Any = wandb.init(
            project=wandb_project(),
            name=folder.name,
            dir=str(folder),
            id=known,
            resume="allow",
            config=flat(recipe),
            settings=wandb.Settings(silent=True, console="off"),
        )
        self.id = str(self._run.id)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See :meth:`Tracker.log`."""
        self._run.log(dict(values), step=step)

    def close(self, files: tuple[Path, ...], *, finished: bool) -> None:
        """See :meth:`Tracker.close`."""
        for file in files:
            self._run.save(str(file), base_path=str(file.parent), policy="now")
        self._run.finish(exit_code=0 if finished else 1)


class Remembered(Tracker, Protocol):
    """A tracker that has a name of its own for the run."""

    id: str


Open = Callable[[str | None, Path, Recipe], Remembered]

OPENERS: dict[TrackerName, tuple[str, str, Open]] = {
    "mlflow": ("mlflow", "mlflow-skinny", MLflow),
    "wandb": ("wandb", "wandb", WeightsAndBiases),
}
"""By name: the module that it stands on, the package of that, and how it is opened."""


class Guarded:
    """A tracker whose failures are told, once, and end it.

    Args:
        name: the tracker's.
        tracker: itself.
        say: tells the user a line.
    """

    def __init__(self, name: str, tracker: Tracker, say: Callable[[str], None]) -> None:
        self._name = name
        self._tracker: Tracker | None = tracker
        self._say = say

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See :meth:`Tracker.log`."""
        self._try(lambda tracker: tracker.log(values, step))

    def close(self, files: tuple[Path, ...], *, finished: bool) -> None:
        """See :meth:`Tracker.close`."""
        self._try(lambda tracker: tracker.close(files, finished=finished))

    def _try(self, what: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            what(self._tracker)
        except Exception as error:  # noqa: BLE001 - each of their clients raises its own
            self._tracker = None
            reason = (str(error) or repr(error)).splitlines()[0]
            self._say(f"{self._name} is told nothing more ({reason}); the training goes on")


def check_installed(names: tuple[TrackerName, ...]) -> None:
    """Whether the trackers can be imported; before a run has a folder.

    Raises:
        ConfigError: if one cannot.
    """
    for name in names:
        module, package, _ = OPENERS[name]
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ConfigError(
                f"the recipe tells {name} of the run, and {module} cannot be imported: install "
                f"{package}, or leave {name} out of trackers"
            ) from error


def open_trackers(folder: Path, recipe: Recipe, say: Callable[[str], None]) -> list[Tracker]:
    """The trackers that a recipe asks for, beside TensorBoard.

    Args:
        folder: the run's.
        recipe: the run's.
        say: tells the user a line.

    Raises:
        ConfigError: if one does not answer.
    """
    file = folder / FILE
    known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    found: list[Tracker] = []
    for name in recipe.trackers:
        try:
            tracker = OPENERS[name][2](known.get(name), folder, recipe)
        except Exception as error:  # each of their clients raises its own
            reason = (str(error) or repr(error)).splitlines()[0]
            raise ConfigError(
                f"{name} does not take the run ({reason}): look at its variables in the "
                f"environment, or leave it out: `gsop train --resume {folder} --set trackers=[]`"
            ) from error
        known[name] = tracker.id
        found.append(Guarded(name, tracker, say))
    if known:
        write_whole(file, (json.dumps(known, indent=2) + "\n").encode())
    return found


def flat(recipe: Recipe) -> dict[str, Any]:
    """Every value of a recipe by its key, as ``optimizer.learning_rate``."""
    found: dict[str, Any] = {}

    def walk(values: Mapping[str, Any], above: str) -> None:
        for key, value in values.items():
            if isinstance(value, Mapping):
                walk(value, f"{above}{key}.")
            else:
                found[above + key] = value

    walk(recipe.model_dump(mode="json"), "")
    return found

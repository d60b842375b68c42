"""A run's folder: what a training leaves behind, and what it goes on from.

::

    recipe.json          every value of the recipe, as it was resolved
    data.json            what the images are: labels, source, fingerprint
    checkpoints/         step-….pt, the newest two
    log.csv              a row every few steps: loss, accuracy, learning rate, gates
    tensorboard/         the same for TensorBoard
    curves.png gates.png the same as pictures, at the end
    preview.png          the first step's images, as they were varied
    model.safetensors    the weights that the run ended with, averaged if the recipe says so
    best.safetensors     those with the least loss on held-out images, of all looks at them
    result.json          what it came to: steps, seconds, images, held-out accuracy
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import safetensors.torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from gsop.errors import ConfigError, SetupError
from gsop.model.resnet import GSoPResNet
from gsop.paths import is_utf8, printable
from gsop.train.checkpoint import newest_step, write_whole
from gsop.train.data.dataset import DataSet
from gsop.train.recipe import Recipe, validate

_RECIPE, _DATA, _RESULT, _WEIGHTS = "recipe.json", "data.json", "result.json", "model.safetensors"
_BEST = "best.safetensors"


class DataInfo(BaseModel):
    """What a run was trained on.

    Attributes:
        labels: one text a class, in the order of the logits.
        source: where the images come from, under which terms.
        how: how the held-out images were chosen.
        fingerprint: of the images; another one means other images.
        images: to train on.
    """

    model_config = ConfigDict(frozen=True)

    labels: tuple[str, ...]
    source: dict[str, str]
    how: str
    fingerprint: str
    images: int

    @classmethod
    def of(cls, data: DataSet) -> Self:
        """What ``data`` is."""
        return cls(
            labels=data.labels,
            source=dict(data.source),
            how=data.how,
            fingerprint=data.fingerprint,
            images=len(data),
        )


class Result(BaseModel):
    """What a run came to.

    Attributes:
        steps: optimiser steps.
        images: seen, with repetition, by all processes.
        seconds: of training, the waiting and the looks at the held-out images included, pauses
            between the parts of a run not.
        images_per_second: over all of them.
        waiting: share of the seconds that the first process waited for images.
        loss: mean training loss of the last row of the log.
        top1: of the held-out images, 0 to 1.
        held_out_loss: of the held-out images, mean cross-entropy.
        best_step: after which it was least.
        best_loss: that loss.
        ended_early: whether the run ended before its last step, for want of a lower loss.
        held_out: images held out.
        broken: names of the images that could not be read, each once.
        processes: that trained side by side.
        device: ``cpu`` or ``cuda``.
    """

    model_config = ConfigDict(frozen=True)

    steps: int
    images: int
    seconds: float
    images_per_second: float
    waiting: float
    loss: float
    top1: float
    held_out_loss: float | None = None
    best_step: int | None = None
    best_loss: float | None = None
    ended_early: bool = False
    held_out: int
    broken: tuple[str, ...]
    processes: int
    device: str


class Run:
    """The folder of one run.

    Args:
        folder: of a run that was begun.

    Raises:
        ConfigError: if it is none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe: Recipe = validate(self._read(_RECIPE), str(folder / _RECIPE))
        try:
            self.data = DataInfo.model_validate(self._read(_DATA))
        except ValidationError as error:
            raise ConfigError(f"{folder / _DATA} is not what a run writes: {error}") from error

    @classmethod
    def create(cls, folder: Path, recipe: Recipe, data: DataInfo) -> Self:
        """Begin a run in ``folder``, which is created.

        Raises:
            ConfigError: if there is a run already, or the folder cannot be written, or not by all
                that write into it.
        """
        if not is_utf8(folder):
            raise ConfigError(
                f"the run's folder, {printable(folder)}, is no UTF-8, as TensorBoard wants it: "
                "choose another with --output"
            )
        if (folder / _RECIPE).exists():
            raise ConfigError(
                f"{folder} holds a run already: go on with it by --resume, or choose another "
                "folder with --output"
            )
        try:
            write_whole(folder / _DATA, _json(data.model_dump(mode="json")))
            write_whole(folder / _RECIPE, _json(recipe.model_dump(mode="json")))
        except OSError as error:
            raise ConfigError(f"the run's folder cannot be written: {error}") from error
        return cls(folder)

    def change(self, recipe: Recipe) -> None:
        """Go by another recipe from now on. A run that had ended goes on if that is longer.

        Raises:
            ConfigError: if it is shorter, or the folder cannot be written.
        """
        before, now = (
            one.schedule.epochs or one.schedule.steps or 0 for one in (self.recipe, recipe)
        )
        if now < before:
            raise ConfigError(
                f"the run in {self.folder} is to last {before:g}: it can become longer, and not "
                f"as short as {now:g}"
            )
        try:
            write_whole(self.folder / _RECIPE, _json(recipe.model_dump(mode="json")))
            if now > before:
                (self.folder / _RESULT).unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"the run's folder cannot be written: {error}") from error
        self.recipe = recipe

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end."""
        return (self.folder / _RESULT).exists()

    @property
    def result(self) -> Result:
        """What the run came to.

        Raises:
            ConfigError: if it has not come to its end.
        """
        if not self.finished:
            raise ConfigError(
                f"the run in {self.folder} has not come to its end: go on with "
                f"`gsop train --resume {self.folder}`"
            )
        return Result.model_validate(self._read(_RESULT))

    def finish(self, weights: Mapping[str, Tensor], result: Result) -> None:
        """Keep what the run ended with.

        Raises:
            SetupError: if it cannot be written; it says where the run can go on.
        """
        tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in weights.items()}
        try:
            write_whole(self.folder / _WEIGHTS, safetensors.torch.save(tensors))
            write_whole(self.folder / _RESULT, _json(result.model_dump(mode="json")))
        except OSError as error:
            raise SetupError(
                f"the weights cannot be written ({error}): make room, then go on with "
                f"`gsop train --resume {self.folder}`, from the newest checkpoint, after step "
                f"{newest_step(self.checkpoints)} of {result.steps}"
            ) from error

    def keep_best(self, weights: Mapping[str, Tensor]) -> None:
        """Keep the best weights so far.

        Raises:
            OSError: if they cannot be written.
        """
        tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in weights.items()}
        write_whole(self.folder / _BEST, safetensors.torch.save(tensors))

    def best_weights(self) -> dict[str, Tensor]:
        """What :meth:`keep_best` kept.

        Raises:
            SetupError: if it cannot be read.
        """
        file = self.folder / _BEST
        try:
            return safetensors.torch.load_file(file)
        except (OSError, SafetensorError) as error:
            raise SetupError(
                f"the best weights cannot be read from {file} ({error}): end the run with the last "
                'ones, in its recipe.json by `"keep": "last"`'
            ) from error

    def load_model(self) -> GSoPResNet:
        """The network that the run ended with, on the CPU in evaluation mode.

        Raises:
            ConfigError: if the run has not come to its end, or its weights are not whole.
        """
        _ = self.result
        file = self.folder / _WEIGHTS
        model = GSoPResNet(self.recipe.config)
        try:
            model.load_state_dict(safetensors.torch.load_file(file))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise ConfigError(
                f"{file} is not what the run wrote ({error}): remove {_RESULT} and go on with "
                f"`gsop train --resume {self.folder}`"
            ) from error
        return model.eval()

    def _read(self, name: str) -> dict[str, Any]:
        file = self.folder / name
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(
                f"{self.folder} is no run's folder: it has no {name}; `gsop train` makes one"
            ) from None
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file} cannot be read: {error}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{file} is not what a run writes")
        return values


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()

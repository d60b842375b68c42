"""What a run has come to: all that changes while it trains, and all that a checkpoint holds.

::

    model      state of the network
    average    state of the moving average of its weights; None if the recipe has none
    optimizer  state of the optimiser
    totals     step, seconds, waiting, loss, top1, broken: of the whole run
    meter      loss, correct, images, parts, seconds, waiting: since the last row of the log
    random     cpu, cuda: of torch's generators

The learning rate, the order of the images and their variation follow from the step alone.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer

from gsop.errors import ConfigError
from gsop.model.resnet import GSoPResNet
from gsop.train import checkpoint
from gsop.train.fabric import Network
from gsop.train.optimizer import freeze, make_optimizer
from gsop.train.recipe import Recipe
from gsop.train.sync_norm import synchronise
from gsop.train.watch import Meter, Totals, check_finite


@dataclass
class State:
    """What a run has come to.

    Attributes:
        model: the network that learns.
        network: the same, as a step calls it: compiled if the recipe says so, and bound to those
            of the other processes.
        optimizer: of the model's weights.
        average: of the model's weights over the last steps; ``None`` if the recipe has none.
        meter: what this process has seen since the last row of the log.
        totals: what it has seen of the whole run.
        step: steps done.
    """

    model: GSoPResNet
    network: Network
    optimizer: Optimizer
    average: GSoPResNet | None
    meter: Meter
    totals: Totals
    step: int = 0

    @property
    def kept(self) -> GSoPResNet:
        """The network whose weights the run ends with."""
        return self.model if self.average is None else self.average

    def save(self, fabric: Fabric, folder: Path, say: Callable[[str], None]) -> None:
        """Write a checkpoint, in the first process; a disk that refuses it costs no more than that.

        Args:
            fabric: device and processes.
            folder: of the checkpoints.
            say: tells the user a line.

        Raises:
            SetupError: if the loss is not finite: nobody could go on from there.
        """
        if not fabric.is_global_zero:
            return
        check_finite(float(self.meter.loss), self.step)
        try:
            checkpoint.save(folder, self.step, self.contents(fabric.device))
        except OSError as error:
            say(
                f"the checkpoint after step {self.step} was not written ({error}): make room; the "
                "training goes on, and the older checkpoints are kept"
            )

    def contents(self, device: torch.device) -> dict[str, Any]:
        """A checkpoint's, as listed above. It shares its tensors with the run.

        Args:
            device: where the run computes.
        """
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "totals": vars(self.totals) | {"step": self.step, "broken": sorted(self.totals.broken)},
            "meter": vars(self.meter),
            "random": {
                "cpu": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            },
        }

    def restore(self, contents: Mapping[str, Any], device: torch.device) -> None:
        """Go back to where a checkpoint was written, torch's generators included.

        Args:
            contents: the checkpoint's.
            device: where the run computes.
        """
        self.model.load_state_dict(contents["model"])
        if self.average is not None:
            self.average.load_state_dict(contents["average"])
        self.optimizer.load_state_dict(contents["optimizer"])
        totals = dict(contents["totals"])
        self.step = totals.pop("step")
        self.totals = Totals(**totals | {"broken": set(totals["broken"])})
        self.meter = Meter(**contents["meter"])
        self.meter.loss = self.meter.loss.to(device)
        self.meter.correct = self.meter.correct.to(device)
        torch.set_rng_state(contents["random"]["cpu"])
        if device.type == "cuda" and contents["random"]["cuda"] is not None:
            torch.cuda.set_rng_state(contents["random"]["cuda"], device)


def begin(fabric: Fabric, recipe: Recipe, initial: GSoPResNet | None) -> State:
    """The state before the first step: the network on its device, and nothing seen.

    Seeds torch's generators.

    Args:
        fabric: device, precision and processes.
        recipe: the network, its optimiser, and how they compute.
        initial: weights to start from; random ones if absent.

    Raises:
        ConfigError: if the recipe starts from trained weights, and there are none.
    """
    if recipe.backbone is not None and initial is None:
        raise ConfigError(f"the recipe starts from {recipe.backbone!r}, which was not loaded")
    device = fabric.device
    torch.manual_seed(recipe.seed)
    model = GSoPResNet(recipe.config) if initial is None else initial
    if recipe.sync_batch_norm and fabric.world_size > 1:
        synchronise(model, device)
    model.train().to(device)
    freeze(model, recipe.optimizer.frozen)
    if recipe.channels_last is True or (recipe.channels_last == "auto" and device.type == "cuda"):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(model).eval() if recipe.ema_decay else None
    network, optimizer = fabric.setup(
        cast(nn.Module, torch.compile(model)) if recipe.compile else model,
        make_optimizer(model, recipe.optimizer),
    )
    return State(model, network, optimizer, average, Meter.at_zero(device), Totals())

"""The learning-rate range test: at which rates a network learns at all (arXiv 1506.01186).

Some steps of the recipe, each at a larger learning rate than the one before: from far too small,
where the loss stays as it is, through where it falls, to where it grows again.
"""

import copy
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from gsop.environment import torchrun_layout
from gsop.errors import ConfigError
from gsop.model.resnet import GSoPResNet
from gsop.train.checkpoint import write_whole
from gsop.train.data.balance import loss_weights
from gsop.train.data.loader import check_shares, loader
from gsop.train.fabric import make_fabric
from gsop.train.figure import new_figure
from gsop.train.optimizer import scale_learning_rate
from gsop.train.recipe import Recipe
from gsop.train.state import begin
from gsop.train.step import take_step
from gsop.train.watch import Meter

LOWEST, HIGHEST = 1e-6, 10.0
"""Learning rates between which one is looked for."""

STEPS = 100
"""Steps from the one to the other."""

SMOOTHING = 0.9
"""Of the losses: how much of the average so far stays with each step."""

TOO_HIGH = 4.0
"""Times the least smoothed loss at which the test ends: from there it only grows."""

LEAST_STEPS = 10
"""Steps of which something can be said."""

MARGIN = 10.0
"""How far below the rate with the least loss the suggestion stays: there it is about to grow."""

PICTURE, NUMBERS = "lr.png", "lr.json"


@dataclass(frozen=True)
class RangeTest:
    """What a range test saw.

    Attributes:
        rates: the learning rate of each step, rising.
        losses: of each step's images, before the step.
        smoothed: the same, averaged over the steps so far.
        steepest: the rate at which the smoothed loss falls fastest, by the rate's logarithm.
        bound: the rate at which it is least: beyond it the loss grows.
        suggestion: the steepest, and no more than a tenth of the bound.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    steepest: float
    bound: float
    suggestion: float


def range_test(
    recipe: Recipe,
    *,
    initial: GSoPResNet | None = None,
    device: str = "auto",
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    steps: int = STEPS,
) -> RangeTest:
    """Look for a recipe's learning rate.

    What trains is a copy: neither ``initial`` nor torch's generators are changed, and nothing is
    written. Rates of parts of the network stay shares of the one that is looked for.

    Args:
        recipe: what to train; its learning rate, schedule and average have no part in it.
        initial: weights to start from, where the recipe names a backbone; of the data's classes.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        lowest: the rate of the first step.
        highest: that of the last, if the loss has not grown before.
        steps: how many.

    Raises:
        ConfigError: if the recipe, the data or the device do not work, several processes train, or
            the loss does not fall at any rate.
    """
    if torchrun_layout() is not None:
        raise ConfigError("the range test is for one process: start it without torchrun")
    data = recipe.open_data()
    recipe = recipe.for_classes(len(data.labels))
    check_shares(recipe.batch_size, recipe.accumulate, 1)
    fabric = make_fabric(recipe, device)
    rates = np.geomspace(lowest, highest, steps)
    losses: list[float] = []
    with torch.random.fork_rng(devices=[fabric.device] if fabric.device.type == "cuda" else []):
        alone = recipe.model_copy(update={"ema_decay": 0.0})
        state = begin(fabric, alone, copy.deepcopy(initial))
        found = loss_weights(data.training_labels(), len(data.labels), recipe.balance)
        weights = None if found is None else torch.tensor(found).float().to(fabric.device)
        parts = iter(
            loader(
                data,
                batch_size=recipe.batch_size,
                seed=recipe.seed,
                steps=steps,
                accumulate=recipe.accumulate,
                draw=recipe.balance.draw,
                workers=recipe.workers,
            )
        )
        for rate in rates:
            scale_learning_rate(state.optimizer, float(rate))
            batch = [next(parts) for _ in range(recipe.accumulate)]
            meter = Meter.at_zero(fabric.device)
            take_step(fabric, recipe, state.network, state.optimizer, batch, meter, weights)
            losses.append(float(meter.loss) / meter.parts)
            smoothed = smooth(losses)
            if not math.isfinite(losses[-1]) or smoothed[-1] > TOO_HIGH * min(smoothed):
                break
    return judged(rates[: len(losses)].tolist(), losses)


def judged(rates: Sequence[float], losses: Sequence[float]) -> RangeTest:
    """What rates and losses come to; those from the first loss on that is not finite are left out.

    Raises:
        ConfigError: if they are too few, or the loss falls nowhere.
    """
    finite = next((n for n, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    rates, losses = tuple(rates[:finite]), tuple(losses[:finite])
    smoothed = smooth(losses)
    least = min(range(len(smoothed)), key=smoothed.__getitem__, default=0)
    if len(losses) < LEAST_STEPS or least == 0:
        raise ConfigError(
            "the loss falls at no learning rate that was tried: look at preview.png of a run, and "
            "at what the recipe's data and network are"
        )
    slopes = np.gradient(np.array(smoothed), np.log(np.array(rates)))[: least + 1]
    steepest, bound = rates[int(slopes.argmin())], rates[least]
    return RangeTest(
        rates=rates,
        losses=losses,
        smoothed=tuple(smoothed),
        steepest=steepest,
        bound=bound,
        suggestion=float(f"{min(steepest, bound / MARGIN):.1e}"),
    )


def smooth(losses: Sequence[float]) -> list[float]:
    """The exponential moving average of the losses, each divided by the weight it has so far."""
    found: list[float] = []
    average = 0.0
    for number, loss in enumerate(losses, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        found.append(average / (1 - SMOOTHING**number))
    return found


def write_range_test(found: RangeTest, folder: Path) -> Path:
    """Write ``lr.png``, the losses by learning rate, and ``lr.json``, the numbers.

    Returns:
        The picture.

    Raises:
        ConfigError: if matplotlib is not installed, or the folder cannot be written.
    """
    figure = new_figure("the range test is", 7, 4)
    axes = figure.subplots()
    axes.plot(found.rates, found.losses, linewidth=0.8, alpha=0.4, label="each step's images")
    axes.plot(found.rates, found.smoothed, linewidth=1.5, label="smoothed")
    axes.axvline(found.suggestion, color="green", label=f"suggestion: {found.suggestion:.1e}")
    axes.axvline(found.steepest, color="grey", linestyle=":", label="falls fastest")
    axes.axvline(found.bound, color="red", linestyle="--", label="grows from here on")
    low, high = min(found.smoothed), max(found.smoothed[0], 1.3 * min(found.smoothed))
    axes.set(
        title="learning-rate range test",
        xlabel="learning rate",
        ylabel="loss",
        xscale="log",
        ylim=(max(0.0, low - 0.2 * (high - low)), high + 0.4 * (high - low)),
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize="small")
    picture = folder / PICTURE
    try:
        write_whole(folder / NUMBERS, (json.dumps(asdict(found), indent=1) + "\n").encode())
        figure.savefig(picture)
    except OSError as error:
        raise ConfigError(f"the range test's folder cannot be written: {error}") from error
    return picture

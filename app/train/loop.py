"""The training loop: data, forward, backward, average; then measure and publish."""

import copy
import platform
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from torch import Generator, nn
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer

from app.errors import SetupError
from app.model.resnet import GSoPResNet
from app.store.store import check_new_version, publish
from app.train.data import DataSet
from app.train.evaluate import measure, normalise
from app.train.recipe import Recipe

REPORT_EVERY = 10
"""Steps between two looks at the loss; each waits for the device."""


def train(
    recipe: Recipe,
    *,
    store: Path,
    name: str,
    version: str,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> Path:
    """Train, measure and publish one model.

    On a CPU the same seed gives the same weights, on a like machine with as many threads.

    Args:
        recipe: what to train, on what, and how.
        store: where to publish.
        name: the model's name there.
        version: a new one of that model.
        seed: of the first weights, the order of the data and their augmentation.
        device: where to train.
        progress: whether to draw a progress bar on the standard error.

    Returns:
        The published version's folder.

    Raises:
        StoreError: if the version exists or cannot be written.
        ConfigError: if the data are not at hand.
        SetupError: if the training diverges.
    """
    check_new_version(store, name, version)
    device = torch.device(device)
    data = recipe.data()
    model = fit(recipe, data, seed=seed, device=device, progress=progress)
    return publish(
        store,
        model,
        name=name,
        version=version,
        input=recipe.input,
        labels=data.labels,
        metrics=measure(model, recipe.input, data, device=device),
        provenance={
            "recipe": recipe.name,
            "seed": seed,
            "steps": recipe.steps,
            "data": dict(data.source),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "device": device.type,
        },
    )


def fit(
    recipe: Recipe, data: DataSet, *, seed: int, device: torch.device, progress: bool
) -> GSoPResNet:
    """Train a network from scratch.

    Returns:
        The moving average of its weights, in evaluation mode.

    Raises:
        SetupError: if the training diverges.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GSoPResNet(recipe.config)
    model.train().to(device)
    averaged = copy.deepcopy(model).eval()
    optimizer = _optimizer(model, recipe)
    batches = data.batches(recipe.batch_size, Generator(device).manual_seed(seed))
    with _progress_bar(progress) as bar:
        task = bar.add_task(recipe.name, total=recipe.steps, loss=float("nan"), rate=0.0)
        for step, (pixels, labels) in zip(range(recipe.steps), batches, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate_at(step)
            logits = model(normalise(pixels, recipe.input)).logits
            loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
            optimizer.step()
            _update_average(averaged, model, min(recipe.ema_decay, (1 + step) / (10 + step)))
            if step % REPORT_EVERY == 0:
                _check_finite(value := loss.item(), step)
                rate = (bar.tasks[task].speed or 0) * recipe.batch_size
                bar.update(task, completed=step, loss=value, rate=rate)
        bar.update(task, completed=recipe.steps)
    return averaged


def _optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """AdamW; biases and the gains of normalisation are not decayed."""
    parameters = list(model.parameters())
    return AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
    )


@torch.no_grad()
def _update_average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    """Move every weight and running statistic of ``averaged`` towards the model's."""
    pairs = zip(averaged.state_dict().values(), model.state_dict().values(), strict=True)
    for average, current in pairs:
        if average.is_floating_point():
            average.lerp_(current, 1 - decay)
        else:
            average.copy_(current)


def _check_finite(loss: float, step: int) -> None:
    if not torch.isfinite(torch.tensor(loss)):
        raise SetupError(f"the loss is {loss} at step {step}: lower the recipe's learning rate")


def _progress_bar(visible: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f} images/s, loss {task.fields[loss]:.3f}, left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not visible,
    )

"""What one step does to the weights and to their average.

Nothing here knows of a log, a checkpoint or a run's folder: a step can be taken by itself.
"""

from collections.abc import Sequence

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from gsop.model.resnet import GSoPOutput
from gsop.train.data.loader import Part
from gsop.train.evaluate import normalise
from gsop.train.fabric import Network
from gsop.train.mixing import mixed
from gsop.train.recipe import Recipe
from gsop.train.watch import Meter


def take_step(
    fabric: Fabric,
    recipe: Recipe,
    network: Network,
    optimizer: Optimizer,
    batch: Sequence[Part],
    meter: Meter,
    weights: Tensor | None = None,
) -> dict[str, Tensor]:
    """Take one step of the optimiser.

    Args:
        fabric: device, precision and processes.
        recipe: how pixels are normalised, what the loss is, how far the gradients are bounded.
        network: in training mode, as ``fabric`` has set it up.
        optimizer: likewise, with the learning rates of this step.
        batch: this process's parts of the step.
        meter: counts each part.
        weights: of the classes in the loss, (classes,) float32; all the same if absent.

    Returns:
        The gates of the last part, by name, (N, …) each.
    """
    optimizer.zero_grad()
    for number, part in enumerate(batch, start=1):
        pixels = part.pixels.to(fabric.device, non_blocking=True)
        labels = part.labels.to(fabric.device, non_blocking=True)
        # The processes exchange their gradients once a step: with the last part.
        with fabric.no_backward_sync(network, enabled=number < len(batch)):
            images, targets = mixed(
                normalise(pixels, recipe.input), labels, recipe.mix, recipe.config.num_classes
            )
            output: GSoPOutput = network(images)
            loss = loss_of(output.logits, targets, recipe, weights)
            fabric.backward(loss / len(batch))
        meter.add(loss, output.logits, labels)
    if recipe.optimizer.clip is not None:
        # Whether they are finite is asked for with the loss: here it would wait for the device.
        norm = fabric.clip_gradients(
            network, optimizer, max_norm=recipe.optimizer.clip, error_if_nonfinite=False
        )
        assert norm is not None  # noqa: S101  # it bounds by norm
        meter.note_gradients(norm)
    optimizer.step()
    return {name: gate.detach() for name, gate in output.gates.items()}


def loss_of(
    logits: Tensor, labels: Tensor, recipe: Recipe, weights: Tensor | None = None
) -> Tensor:
    """What a step makes smaller: the mean over the images, a scalar.

    With weights too it is divided by the number of images, not by the sum of their weights: so the
    parts of a step, and the processes' shares of it, come to what the whole would.

    Args:
        logits: (N, classes).
        labels: (N,) int64; or shares of the classes, (N, classes).
        recipe: says how far the labels are smoothed.
        weights: of the classes, (classes,); all the same if absent.
    """
    if weights is None:
        return F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    each = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing, reduction="none")
    counts = weights[labels] if labels.dim() == 1 else labels @ weights
    return (counts * each).mean()


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, *, decay: float, step: int) -> None:
    """Move every weight and running statistic of ``average`` towards those of ``model``.

    The average begins with the first steps' weights at full weight, so that it forgets the random
    ones.

    Args:
        average: of the weights; changed in place.
        model: the network that learns.
        decay: the share of the average that stays, once it has forgotten the beginning.
        step: steps done, this one included.
    """
    decay = min(decay, step / (9 + step))
    pairs = list(zip(average.state_dict().values(), model.state_dict().values(), strict=True))
    floats = [pair for pair in pairs if pair[0].is_floating_point()]
    if floats:  # together: on a GPU each by itself is a kernel that is over before it is launched
        means, currents = zip(*floats, strict=True)
        torch._foreach_lerp_(means, currents, 1 - decay)
    for mean, current in pairs:
        if not mean.is_floating_point():
            mean.copy_(current)

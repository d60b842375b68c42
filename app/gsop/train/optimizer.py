"""The optimiser of a recipe, and the learning rate of each part of the network at each step."""

from collections.abc import Sequence
from typing import get_args

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from gsop.train.recipe import BackbonePart, OptimizerSpec, Recipe, Role


def make_optimizer(model: nn.Module, spec: OptimizerSpec) -> Optimizer:
    """The optimiser of what learns: a group for each role, rate, and whether it decays."""
    members: dict[tuple[Role, float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = spec.decay_all or parameter.ndim > 1
        members.setdefault((role_of(name), _scale(name, spec), decays), []).append(parameter)
    groups = [
        {
            "params": params,
            "role": role,
            "scale": scale,
            "weight_decay": spec.weight_decay if decays else 0.0,
        }
        for (role, scale, decays), params in members.items()
    ]
    if spec.kind == "sgd":
        return SGD(groups, lr=spec.learning_rate, momentum=spec.momentum)
    return AdamW(groups, lr=spec.learning_rate)


def set_learning_rate(
    optimizer: Optimizer, recipe: Recipe, step: int, steps_per_epoch: int
) -> float:
    """Set each group's learning rate for ``step`` (from 0).

    Returns:
        The head's, which is scaled by nothing but the schedule.
    """
    spec, schedule = recipe.optimizer, recipe.schedule
    for group in optimizer.param_groups:
        share = schedule.share_at(step, steps_per_epoch, group["role"])
        scale = spec.backbone_scale if group["role"] == "backbone" else 1.0
        group["lr"] = spec.learning_rate * share * group.get("scale", scale)  # none in old ones
    return spec.learning_rate * schedule.share_at(step, steps_per_epoch)


def scale_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set each group's learning rate to its share of ``rate``, whatever the schedule says."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def freeze(model: nn.Module, parts: Sequence[BackbonePart]) -> None:
    """Take parts of the backbone out of the training: weights and running statistics.

    Args:
        model: in training mode.
        parts: which; their gates go on learning.
    """
    for name, parameter in model.named_parameters():
        if role_of(name) == "backbone" and name.partition(".")[0] in parts:
            parameter.requires_grad_(False)
    for name, layer in model.named_modules():
        if isinstance(layer, nn.BatchNorm2d) and role_of(f"{name}.") == "backbone":
            layer.train(layer.training and name.partition(".")[0] not in parts)


def _scale(name: str, spec: OptimizerSpec) -> float:
    """The rate of a parameter as a share of the head's."""
    if role_of(name) != "backbone":
        return 1.0
    parts = get_args(BackbonePart)
    part = name.partition(".")[0]
    behind = len(parts) - 1 - parts.index(part) if part in parts else 0
    return spec.backbone_scale * spec.stage_decay**behind


def role_of(name: str) -> Role:
    """The part of a network that a parameter belongs to, by its name."""
    if ".gate." in name:
        return "gates"
    return "head" if name.startswith("head.") else "backbone"

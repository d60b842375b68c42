"""The optimiser of a recipe, and the learning rate of each part of the network at each step."""

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from gsop.train.recipe import OptimizerSpec, Recipe, Role


def make_optimizer(model: nn.Module, spec: OptimizerSpec) -> Optimizer:
    """The optimiser, with a group of parameters for each role and whether it decays."""
    members: dict[tuple[Role, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        decays = spec.decay_all or parameter.ndim > 1
        members.setdefault((_role(name), decays), []).append(parameter)
    groups = [
        {"params": params, "role": role, "weight_decay": spec.weight_decay if decays else 0.0}
        for (role, decays), params in members.items()
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
        if group["role"] == "backbone":
            share *= spec.backbone_scale
        group["lr"] = spec.learning_rate * share
    return spec.learning_rate * schedule.share_at(step, steps_per_epoch)


def _role(name: str) -> Role:
    if ".gate." in name:
        return "gates"
    return "head" if name.startswith("head.") else "backbone"

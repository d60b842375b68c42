"""What torchvision knows: ImageNet's classes, and ResNets that were trained on it."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import Tensor

from gsop.commands.models.foreign import with_batch_counts
from gsop.errors import ConfigError
from gsop.images import InputSpec


@dataclass(frozen=True)
class PretrainedResNet:
    """A ResNet of torchvision's.

    Attributes:
        state_dict: its tensors.
        input: how torchvision prepares its images.
        name: of the weights, such as ``ResNet50_Weights.IMAGENET1K_V2``.
        url: where torchvision has them from.
    """

    state_dict: dict[str, Tensor]
    input: InputSpec
    name: str
    url: str


def imagenet_labels() -> list[str]:
    """The names of ImageNet's 1000 classes, in the usual order.

    Raises:
        ConfigError: if torchvision is not installed.
    """
    weights = _torchvision_models("name the classes with --labels FILE").ResNet50_Weights.DEFAULT
    return list(weights.meta["categories"])


def pretrained_resnet(depth: int) -> PretrainedResNet:
    """The best weights that torchvision has for a ResNet, from its cache or else from the network.

    Raises:
        ConfigError: if torchvision is not installed, has no such network, or cannot fetch it.
    """
    remedy = "pass a torchvision ResNet's state dict as --backbone FILE"
    models = _torchvision_models(remedy)
    name = f"resnet{depth}"
    if name not in models.list_models(models):
        raise ConfigError(f"torchvision has no ResNet-{depth}: choose another depth, or {remedy}")
    weights = models.get_model_weights(name).DEFAULT
    try:
        # Downloads are checked against the hash in their name; a pickle's code is never run.
        state_dict = weights.get_state_dict(check_hash=True, map_location="cpu", weights_only=True)
    except Exception as error:  # network, disk, hash or file: each library raises its own
        raise ConfigError(
            f"torchvision cannot provide {weights} ({type(error).__name__}: {_first_line(error)}): "
            f"let this machine reach {weights.url}, or fetch that file elsewhere and {remedy}"
        ) from error
    return PretrainedResNet(
        state_dict=with_batch_counts(state_dict),
        input=_input_of(weights.transforms()),
        name=str(weights),
        url=weights.url,
    )


def _torchvision_models(remedy: str) -> ModuleType:
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise ConfigError(
            f"torchvision cannot be imported ({_first_line(error)}): install the extra "
            f"`torchvision` of this project, or {remedy}"
        ) from error
    module: ModuleType = models
    return module


def _input_of(preset: Any) -> InputSpec:
    return InputSpec(
        height=preset.crop_size[0],
        width=preset.crop_size[0],
        resize=preset.resize_size[0],
        mean=preset.mean,
        std=preset.std,
        interpolation=preset.interpolation.value,
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]

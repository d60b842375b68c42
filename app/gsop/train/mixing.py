"""Batches whose images are mixed in pairs, by torchvision."""

import torch
from torch import Tensor

from gsop.errors import ConfigError
from gsop.train.recipe import MixSpec


def mixed(images: Tensor, labels: Tensor, how: MixSpec, classes: int) -> tuple[Tensor, Tensor]:
    """The images as the network is to see them, and what it is to answer.

    What is drawn comes from torch's generator of the CPU, which checkpoints keep.

    Args:
        images: (N, 3, H, W), normalised.
        labels: (N,) int64.
        how: how they are mixed.
        classes: of the network.

    Returns:
        Both as they came if nothing is mixed; else images, and shares of the classes (N, classes).

    Raises:
        ConfigError: if torchvision is not installed.
    """
    if not how.mixup and not how.cutmix:
        return images, labels
    try:
        from torchvision.transforms.v2 import CutMix, MixUp
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise ConfigError(
            "images are mixed by torchvision, which cannot be imported: install the extra "
            "`torchvision`, or train without (--set mix.mixup=0 --set mix.cutmix=0)"
        ) from error
    cuts = how.cutmix > 0 and (how.mixup == 0 or float(torch.rand(())) < 0.5)
    kind, alpha = (CutMix, how.cutmix) if cuts else (MixUp, how.mixup)
    images, shares = kind(alpha=alpha, num_classes=classes)(images, labels)
    return images, shares

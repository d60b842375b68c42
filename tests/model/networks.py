"""Small networks of every kind, for tests."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from benchmarks import golden_numbers as golden
from gsop.model.config import GSoPResNetConfig
from gsop.model.resnet import GSoPResNet

TINY = GSoPResNetConfig(depth=18, stem="cifar", base_width=8, reduced_dim=6, num_classes=10)
CONFIGS = {
    "basic": TINY,
    "bottleneck": replace(TINY, depth=50, base_width=4),
    "imagenet stem": replace(TINY, stem="imagenet"),
    "last stride 2": replace(TINY, last_stride=2),
    "all blocks": replace(TINY, gated_blocks="all"),
    "no gates": replace(TINY, gated_blocks="none"),
    "article": replace(TINY, flavour="article"),
    "position": replace(TINY, attention="position"),
    "fusion_avg": replace(TINY, attention="fusion_avg"),
    "fusion_max": replace(TINY, attention="fusion_max"),
    "fusion_concat": replace(TINY, attention="fusion_concat"),
    "se": replace(TINY, attention="se"),
    "isqrt": replace(TINY, head="isqrt", head_dim=8),
    "preactivation": replace(TINY, depth=164, base_width=4),
    "preactivation isqrt": replace(TINY, depth=164, base_width=4, head="isqrt", head_dim=8),
}
EVERY_CONFIG = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def network(config: GSoPResNetConfig) -> GSoPResNet:
    """A network in eval mode whose BNs have seen images, so that no gate is saturated."""
    torch.manual_seed(0)
    model = GSoPResNet(config).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model(images(16))
    return model.eval()


def images(batch: int, size: int = 33) -> Tensor:
    return golden.normal(batch, (batch, 3, size, size))

"""From the last feature map to logits: first-order and second-order pooling."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gsop.model.config import GSoPResNetConfig, Head
from gsop.model.gsop import covariance
from gsop.model.isqrt import matrix_sqrt
from gsop.model.precision import KeepsFloat32, at_least_float32, mean_of_map


class Classifier(KeepsFloat32, nn.Linear):
    """A linear layer that computes logits in float32 at least.

    bfloat16 has eight bits: logits rounded to it tie, and the best of near-equal ones is lost.
    """

    def forward(self, features: Tensor) -> Tensor:  # (N, in_features)
        """Logits (N, out_features)."""
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(at_least_float32(features))


class GAPHead(nn.Module):
    """Global average pool and a linear layer: GSoP-Net1."""

    def __init__(self, config: GSoPResNetConfig) -> None:
        super().__init__()
        self.fc = Classifier(config.stage_channels[-1], config.num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        """Logits (N, num_classes)."""
        logits: Tensor = self.fc(mean_of_map(x))
        return logits


class ISqrtHead(nn.Module):
    """The square root of a covariance, and a linear layer on its lower triangle: GSoP-Net2."""

    triangle: Tensor

    def __init__(self, config: GSoPResNetConfig) -> None:
        super().__init__()
        dim = config.head_dim
        self.reduce = nn.Conv2d(config.stage_channels[-1], dim, kernel_size=1, bias=False)
        self.reduce_bn = nn.BatchNorm2d(dim)
        self.fc = Classifier(dim * (dim + 1) // 2, config.num_classes)
        rows, columns = torch.tril_indices(dim, dim)
        self.register_buffer("triangle", rows * dim + columns, persistent=False)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        """Logits (N, num_classes)."""
        reduced = F.relu(self.reduce_bn(self.reduce(x)))  # (N, d, H, W)
        root = matrix_sqrt(covariance(reduced))  # (N, d, d), in float32 at least
        features = root.flatten(1).index_select(1, self.triangle)  # (N, d·(d+1)/2)
        logits: Tensor = self.fc(features)
        return logits


HEADS: dict[Head, Callable[[GSoPResNetConfig], nn.Module]] = {"gap": GAPHead, "isqrt": ISqrtHead}
"""The heads by name."""

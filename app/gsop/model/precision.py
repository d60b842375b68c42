"""What stays in float32 when a network computes in a half precision.

The convolutions are almost all of the work, and bear half precision well. Covariances, what is made
of them and the classifier do not; they are 0.6 % of the multiply-adds of a ResNet-50 (GSoP-Net1).
"""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` itself, or in float32 if it is in a half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def mean_of_map(x: Tensor) -> Tensor:
    """The means (N, C) of a feature map (N, C, H, W), in float32 at least.

    Summed up in float32 while it is read, instead of in a copy of the whole map.
    """
    return x.mean((2, 3), dtype=torch.promote_types(x.dtype, torch.float32))


def as_linear(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """What a 1×1 convolution makes of one position: (N, in_channels) to (N, out_channels).

    As the matrix product that it is: for one position a convolution takes a CPU several times as
    long, and torch convolves float32 on CUDA in TF32, unless it is told not to.
    """
    return F.linear(x, conv.weight.flatten(1), conv.bias)


class KeepsFloat32(nn.Module):
    """A module that stays in float32 at least when its network is moved to a half precision."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def keep_float32(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            if moved.dtype in (torch.float16, torch.bfloat16):
                return tensor.to(moved.device)
            return moved

        super()._apply(keep_float32, recurse)  # type: ignore[no-untyped-call]  # torch leaves it so
        return self

"""Ways to compute a network on CUDA in fewer passes over memory, as :class:`CudaOptions` choose.

On a fast GPU two thirds of a forward are passes that compute next to nothing: a bias, a ReLU, a
sum. cuDNN's convolution does none of them by itself, so that even a batch norm that was folded
into a bias costs one. The CUDA twin of :mod:`gsop.backends.packing`.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gsop.backends.packing import RECTIFIED
from gsop.cuda_options import CudaOptions
from gsop.model.gating import ChannelGating, Gated, Ungated
from gsop.model.gsop import ChannelGate, covariance
from gsop.model.precision import mean_of_map
from gsop.model.resnet import BasicBlock, Bottleneck, ResidualBlock, Stage

LAST: dict[type[nn.Module], str] = {BasicBlock: "conv2", Bottleneck: "conv3"}
"""The convolution that a residual branch ends with, by the block."""

GatedSum = Callable[[Tensor, Tensor, Tensor], Tensor]
"""relu(b·c + shortcut) of (N, C, H, W), (N, C) and (N, C, H, W)."""


def fuse(model: nn.Module, options: CudaOptions, gated_sum: GatedSum) -> None:
    """Have ``model`` compute as ``options`` say, in place; it answers the same, within rounding.

    Args:
        model: in eval mode, its batch norms folded, and in the precision that it will compute in.
        options: which ways.
        gated_sum: what computes ``residuals=fused``.
    """
    for parent in list(model.modules()):
        if isinstance(parent, ChannelGating) and isinstance(parent.channel, ChannelGate):
            parent.channel = FewerPasses(parent.channel, options)
    if options.convolutions == "fused":
        for parent in list(model.modules()):
            _rectify(parent)
    for stage in [part for part in model.modules() if isinstance(part, Stage)]:
        for index, block in enumerate(stage):
            stage[index] = _joined(block, options, gated_sum)


def products_covariance(x: Tensor) -> Tensor:
    """:func:`gsop.model.gsop.covariance` as a product of the features as they are.

    E[ffᵀ] less E[f]E[f]ᵀ. In half precision the products of two features are exact in float32, in
    which they are summed up, on circuits that are many times as fast as those for float32 factors.

    Args:
        x: features (N, d, H, W).

    Returns:
        (N, d, d), in float32 at least.
    """
    features = x.flatten(2)  # (N, d, M)
    means = mean_of_map(x)  # (N, d)
    wide = {} if features.dtype == means.dtype else {"out_dtype": means.dtype}
    products = torch.bmm(features, features.mT, **wide)  # type: ignore[call-overload]  # not in torch's stubs
    covariances: Tensor = products / features.shape[2] - means[:, :, None] * means[:, None, :]
    return covariances


class RectifiedConv2d(nn.Module):
    """relu(conv(x) + bias), in one call of cuDNN's."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self._geometry = _geometry(conv)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), channels last."""
        weight, bias = self.conv.weight, self.conv.bias
        return torch.cudnn_convolution_relu(x, weight, bias, *self._geometry)


class JoinedBlock(nn.Module):
    """A block without a gate: relu(conv(…) + bias + shortcut), in one call of cuDNN's.

    Args:
        block: whose last convolution is taken out.
    """

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        name = LAST[type(block)]
        self.conv = cast("nn.Conv2d", getattr(block, name))
        setattr(block, name, nn.Identity())
        self.block = block
        self._geometry = _geometry(self.conv)

    def forward(self, x: Tensor) -> Gated:
        """The block's output (N, C, H, W), and no gates."""
        conv, shortcut = self.conv, self.block.shortcut(x)
        y = torch.cudnn_convolution_add_relu(
            self.block.residual(x), conv.weight, shortcut, 1.0, conv.bias, *self._geometry
        )
        return y, {}


class GatedBlock(nn.Module):
    """A block with a gate of its channels: relu(b·c + shortcut), in one pass."""

    def __init__(self, block: ResidualBlock, gated_sum: GatedSum) -> None:
        super().__init__()
        self.block = block
        self._gated_sum = gated_sum

    def forward(self, x: Tensor) -> Gated:
        """The block's output (N, C, H, W), and its gate."""
        b = self.block.residual(x)
        gate = cast("ChannelGating", self.block.gate).channel(b)
        return self._gated_sum(b, gate, self.block.shortcut(x)), {"channel": gate}


class FewerPasses(nn.Module):
    """The paper's gate of the channels (:class:`gsop.model.gsop.ChannelGate`), as options say."""

    def __init__(self, gate: ChannelGate, options: CudaOptions) -> None:
        super().__init__()
        self.reduce: nn.Module = gate.reduce
        self.reduce_bn = gate.reduce_bn
        self.excite = gate.excite
        self._covariance = products_covariance if options.covariance == "products" else covariance
        self._step = 1
        stride = gate.reduce.stride[0]
        if options.positions == "sliced" and stride > 1:
            self._step, gate.reduce.stride = stride, (1, 1)
        if options.convolutions == "fused":
            self.reduce = RectifiedConv2d(gate.reduce)

    def forward(self, x: Tensor) -> Tensor:
        """The gate (N, C), in float32 at least."""
        taken = x[:, :, :: self._step, :: self._step]
        # After a slice the layout is stated anew: cuDNN wants the memory to be without gaps.
        rectified = F.relu(taken).contiguous(memory_format=torch.channels_last)
        reduced = self.reduce_bn(self.reduce(rectified))  # (N, d, H/stride, W/stride)
        if not isinstance(self.reduce, RectifiedConv2d):
            reduced = F.relu(reduced)
        gate: Tensor = self.excite(self._covariance(reduced))  # (N, C)
        return gate


def _joined(block: nn.Module, options: CudaOptions, gated_sum: GatedSum) -> nn.Module:
    if not isinstance(block, ResidualBlock):
        return block
    if isinstance(block.gate, Ungated) and options.convolutions == "fused":
        return JoinedBlock(block)
    if isinstance(block.gate, ChannelGating) and options.residuals == "fused":
        return GatedBlock(block, gated_sum)
    return block


def _rectify(parent: nn.Module) -> None:
    """Give the convolutions of ``parent`` the ReLUs that directly follow them."""
    for name, relu in RECTIFIED.get(type(parent), ()):
        conv = getattr(parent, name, None)
        if type(conv) is nn.Conv2d and hasattr(parent, relu):
            setattr(parent, name, RectifiedConv2d(conv))
            setattr(parent, relu, nn.Identity())


def _geometry(conv: nn.Conv2d) -> tuple[Any, ...]:
    """Stride, padding, dilation and groups, as cuDNN's calls take them."""
    assert not isinstance(conv.padding, str)  # noqa: S101  # the networks give numbers
    return conv.stride, conv.padding, conv.dilation, conv.groups

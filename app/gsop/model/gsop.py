"""Global second-order pooling: from a feature map's covariance to a gate.

    x ─ 1×1 conv, BN, ReLU ─ covariance ─ row-wise conv ─ 1×1 conv ─ sigmoid ─ gate
    (N,C,H,W)   (N,d,H,W)      (N,d,d)       (N,4d)                           (N,C)

A covariance says which channels fire together, over the whole image. Each of its rows, one
channel's relation to all others, is summed up in four numbers; from these the gate is made.
Gao et al., Global Second-order Pooling Convolutional Networks, CVPR 2019 (arXiv 1811.12006).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gsop.model.precision import KeepsFloat32, as_linear, at_least_float32

OUTPUTS_PER_ROW = 4
"""Numbers that the row-wise convolution makes of each row of a covariance (paper, 3.2)."""


class GateParts(NamedTuple):
    """What a gate is made of.

    Attributes:
        features: reduced ones (N, d, h, w), over which the matrix is taken; ``None`` for a gate
            that is made of no matrix.
        matrix: the covariance (N, rows, rows) behind the gate, as the excitation takes it; or
            ``None``.
        logits: the gate before its sigmoid, (N, outputs).
    """

    features: Tensor | None
    matrix: Tensor | None
    logits: Tensor


def covariance(x: Tensor) -> Tensor:
    """The covariance of the channels over the positions, in float32 at least.

    Half precisions are left first, and autocast is off: a sum over thousands of positions would
    overflow float16, and lose most digits of bfloat16.

    Args:
        x: features (N, d, H, W).

    Returns:
        (N, d, d), symmetric; divided by the number of positions, H·W.
    """
    with torch.autocast(x.device.type, enabled=False):
        features = at_least_float32(x).flatten(2)  # (N, d, M)
        centred = features - features.mean(2, keepdim=True)
        return centred @ centred.mT / features.shape[2]


class RowWiseConv(nn.Conv2d):
    """The grouped convolution that sums up each row of a matrix in four numbers.

    One group a row, the kernel as long as the row: parameters are those of
    ``Conv2d(rows, 4·rows, (rows, 1), groups=rows)``. Such a convolution is one small matrix
    product a row, and computed as that it takes a CPU a fifth of the time for one image, and a
    thirteenth for a batch of 32 (benchmarks/gate.py).
    """

    def __init__(self, rows: int) -> None:
        super().__init__(rows, OUTPUTS_PER_ROW * rows, (rows, 1), groups=rows)

    def forward(self, matrix: Tensor) -> Tensor:  # (N, rows, rows)
        """Four numbers a row, (N, 4·rows)."""
        rows = self.groups
        assert self.bias is not None  # noqa: S101 - for the type checker; Conv2d made one
        kernels = self.weight.view(rows, OUTPUTS_PER_ROW, rows)
        bias = self.bias.view(rows, OUTPUTS_PER_ROW, 1)
        summed = torch.baddbmm(bias, kernels, matrix.permute(1, 2, 0))  # (rows, 4, N)
        return summed.permute(2, 0, 1).flatten(1)


class Excitation(KeepsFloat32):
    """The paper's excitation: from a covariance matrix to gate values.

    Always computed in float32 at least, whatever the network's precision and autocast: it is under
    a thousandth of the network's work, and its rounding would be multiplied into every position.

    Args:
        rows: side of the matrix.
        outputs: length of the gate.
        activation: between the two convolutions; the paper's channel gate has none.
    """

    def __init__(self, rows: int, outputs: int, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.row_bn = nn.BatchNorm1d(rows)
        self.row_conv = RowWiseConv(rows)
        self.activation = activation or nn.Identity()
        self.expand = nn.Conv2d(OUTPUTS_PER_ROW * rows, outputs, kernel_size=1)

    def logits(self, matrix: Tensor) -> Tensor:  # (N, rows, rows)
        """The gate values before the sigmoid, (N, outputs)."""
        with torch.autocast(matrix.device.type, enabled=False):
            summed = self.row_conv(self.row_bn(matrix))  # (N, 4·rows)
            return as_linear(self.expand, self.activation(summed))

    def forward(self, matrix: Tensor) -> Tensor:  # (N, rows, rows)
        """Gate values between 0 and 1, (N, outputs)."""
        return torch.sigmoid(self.logits(matrix))

    def start_at_half(self) -> None:
        """Make every gate value ½, whatever the matrix, until the network is trained."""
        for parameter in self.expand.parameters():
            nn.init.zeros_(parameter)


class ChannelGate(nn.Module):
    """The paper's gate of the channels: one number a channel, from the channels' covariance.

    Args:
        channels: C, of the tensor to gate.
        reduced_dim: d, channels that the covariance is taken over.
        stride: of the reducing convolution; the paper's first stage takes every second position.
    """

    def __init__(self, channels: int, reduced_dim: int = 128, stride: int = 1) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, reduced_dim, kernel_size=1, stride=stride)
        self.reduce_bn = nn.BatchNorm2d(reduced_dim)
        self.excite = Excitation(reduced_dim, channels)

    def parts(self, x: Tensor) -> GateParts:  # (N, C, H, W)
        """What the gate is made of; its logits are (N, C)."""
        reduced = F.relu(self.reduce_bn(self.reduce(F.relu(x))))  # (N, d, H/stride, W/stride)
        matrix = covariance(reduced)  # (N, d, d)
        return GateParts(reduced, matrix, self.excite.logits(matrix))

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        """The gate (N, C), in float32 at least."""
        return torch.sigmoid(self.parts(x).logits)


class ArticleExcitation(KeepsFloat32):
    """The article's excitation: BN follows each convolution, and none precedes them.

    Args:
        rows: side of the matrix.
        outputs: length of the gate.
    """

    def __init__(self, rows: int, outputs: int) -> None:
        super().__init__()
        self.row_conv = RowWiseConv(rows)
        self.row_bn = nn.BatchNorm1d(OUTPUTS_PER_ROW * rows)
        self.expand = nn.Conv2d(OUTPUTS_PER_ROW * rows, outputs, kernel_size=1)
        self.expand_bn = nn.BatchNorm2d(outputs)

    def logits(self, matrix: Tensor) -> Tensor:  # (N, rows, rows)
        """The gate values before the sigmoid, (N, outputs)."""
        with torch.autocast(matrix.device.type, enabled=False):
            summed = self.row_bn(self.row_conv(matrix))  # (N, 4·rows)
            expanded: Tensor = self.expand_bn(as_linear(self.expand, summed)[:, :, None, None])
            return expanded.flatten(1)

    def forward(self, matrix: Tensor) -> Tensor:  # (N, rows, rows)
        """Gate values between 0 and 1, (N, outputs)."""
        return torch.sigmoid(self.logits(matrix))

    def start_at_half(self) -> None:
        """Make every gate value ½, whatever the matrix, until the network is trained."""
        for parameter in self.expand_bn.parameters():
            nn.init.zeros_(parameter)


class ArticleChannelGate(nn.Module):
    """The article's gate of the channels, from a covariance that is a sum, not a mean.

    Args:
        channels: C, of the tensor to gate.
        reduced_dim: d, channels that the covariance is taken over.
    """

    def __init__(self, channels: int, reduced_dim: int = 128) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, reduced_dim, kernel_size=1)
        self.reduce_bn = nn.BatchNorm2d(reduced_dim)
        self.excite = ArticleExcitation(reduced_dim, channels)

    def parts(self, x: Tensor) -> GateParts:  # (N, C, H, W)
        """What the gate is made of; its logits are (N, C)."""
        reduced = F.relu(self.reduce_bn(self.reduce(x)))  # (N, d, H, W)
        matrix = covariance(reduced) * (reduced.shape[2] * reduced.shape[3])  # (N, d, d)
        return GateParts(reduced, matrix, self.excite.logits(matrix))

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        """The gate (N, C), in float32 at least."""
        return torch.sigmoid(self.parts(x).logits)


class GSoP(nn.Module):
    """The article's plug-in block: gates the channels of any layer's output.

        features = GSoP(channels=256)(features)

    ``block.gate(features)`` is the gate alone, (N, C).

    Args:
        channels: C, of the tensor to gate.
        reduced_dim: d, channels that the covariance is taken over.
    """

    def __init__(self, channels: int, reduced_dim: int = 128) -> None:
        super().__init__()
        self.gate = ArticleChannelGate(channels, reduced_dim)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        """``x`` times its gate, (N, C, H, W)."""
        return gate_channels(x, self.gate(x))


def gate_channels(x: Tensor, gate: Tensor) -> Tensor:
    """``x`` (N, C, H, W) times ``gate`` (N, C), in the dtype of ``x``."""
    return x * gate[:, :, None, None].to(x.dtype)

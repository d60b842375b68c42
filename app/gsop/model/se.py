"""The gate of squeeze-and-excitation: first-order pooling, to compare the second order with.

    x ─ global average pool ─ 1×1 conv ─ ReLU ─ 1×1 conv ─ sigmoid ─ gate
    (N,C,H,W)       (N,C)      (N,C/16)                              (N,C)

Hu et al., Squeeze-and-Excitation Networks, CVPR 2018 (arXiv 1709.01507).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gsop.model.gsop import GateParts
from gsop.model.precision import KeepsFloat32, as_linear, mean_of_map

REDUCTION = 16
"""Channels for each hidden number (the article's choice, its section 6.1)."""

MIN_HIDDEN = 4
"""The fewest hidden numbers: what the narrowest ResNet of the article has. Networks narrower than
64 channels would be left with one or two, and be compared with a gate that nobody would use."""


class SEGate(KeepsFloat32):
    """A gate of the channels from the channels' means: one number a channel.

    Computed in float32 at least, as the other gates are.

    Args:
        channels: C, of the tensor to gate.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // REDUCTION, MIN_HIDDEN)
        self.squeeze = nn.Conv2d(channels, hidden, kernel_size=1)
        self.expand = nn.Conv2d(hidden, channels, kernel_size=1)

    def parts(self, x: Tensor) -> GateParts:  # (N, C, H, W)
        """What the gate is made of: no matrix, and logits (N, C)."""
        with torch.autocast(x.device.type, enabled=False):
            hidden = F.relu(as_linear(self.squeeze, mean_of_map(x)))  # (N, C/16)
            return GateParts(None, None, as_linear(self.expand, hidden))

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        """The gate (N, C), in float32 at least."""
        return torch.sigmoid(self.parts(x).logits)

    def start_at_half(self) -> None:
        """Make every gate value ½, whatever the image, until the network is trained."""
        for parameter in self.expand.parameters():
            nn.init.zeros_(parameter)

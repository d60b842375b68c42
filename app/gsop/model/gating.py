"""What a residual block does with its gates: multiply, fuse, and hand them on.

Each class here takes the end of a residual branch, b (N, C, H, W), and returns it gated, beside
the gates by kind: c (N, C) of the channels, p (N, H, W) of the positions, both made from b. A gate
may also be given: then b is gated with that one instead, and none of its kind is computed.
"""

from collections.abc import Callable, Mapping
from math import log2

import torch
from torch import Tensor, nn

from gsop.model.config import Attention, GSoPResNetConfig
from gsop.model.gsop import ArticleChannelGate, ChannelGate, gate_channels
from gsop.model.position import PositionGate, gate_positions
from gsop.model.se import SEGate

Gated = tuple[Tensor, dict[str, Tensor]]
"""A gated tensor, and the gates that it was gated with, by kind."""

Given = Mapping[str, Tensor] | None
"""Gates to take instead of those that would be computed, by kind."""


def gate_of(kind: str, module: nn.Module, b: Tensor, given: Given) -> Tensor:
    """The gate of that kind: the one that is given, or what ``module`` makes of ``b``."""
    if given is not None and kind in given:
        return given[kind]
    gate: Tensor = module(b)
    return gate


class Ungated(nn.Module):
    """b: a block without a gate."""

    def forward(self, b: Tensor, given: Given = None) -> Gated:
        """``b`` as it is, and no gate."""
        return b, {}


class ChannelGating(nn.Module):
    """b·c."""

    def __init__(self, channel: nn.Module) -> None:
        super().__init__()
        self.channel = channel

    def forward(self, b: Tensor, given: Given = None) -> Gated:
        """``b`` gated, and its gate ``channel``."""
        gate = gate_of("channel", self.channel, b, given)
        return gate_channels(b, gate), {"channel": gate}


class PositionGating(nn.Module):
    """relu(b·p)."""

    def __init__(self, position: nn.Module) -> None:
        super().__init__()
        self.position = position

    def forward(self, b: Tensor, given: Given = None) -> Gated:
        """``b`` gated and rectified, and its gate ``position``."""
        gate = gate_of("position", self.position, b, given)
        return gate_positions(b, gate), {"position": gate}


class Fusion(nn.Module):
    """Both gates side by side; a subclass says how the two gated tensors become one."""

    def __init__(self, channel: nn.Module, position: nn.Module) -> None:
        super().__init__()
        self.channel = channel
        self.position = position

    def fuse(self, by_channel: Tensor, by_position: Tensor) -> Tensor:
        """(N, C, H, W) from b·c and relu(b·p), both (N, C, H, W)."""
        raise NotImplementedError

    def forward(self, b: Tensor, given: Given = None) -> Gated:
        """``b`` gated in both ways, and its gates ``channel`` and ``position``."""
        channel = gate_of("channel", self.channel, b, given)
        position = gate_of("position", self.position, b, given)
        fused = self.fuse(gate_channels(b, channel), gate_positions(b, position))
        return fused, {"channel": channel, "position": position}


class SumFusion(Fusion):
    """b·c + relu(b·p): the paper's average, without its ½."""

    def fuse(self, by_channel: Tensor, by_position: Tensor) -> Tensor:
        """The sum."""
        return by_channel + by_position


class MaxFusion(Fusion):
    """max(b·c, relu(b·p)), element by element."""

    def fuse(self, by_channel: Tensor, by_position: Tensor) -> Tensor:
        """The maximum."""
        return torch.maximum(by_channel, by_position)


class ConcatFusion(Fusion):
    """BN(conv(b·c) + conv(relu(b·p))): a convolution of both, concatenated, by linearity.

    The kernels reach along the height only, the farther the fewer groups of 64 channels there are.

    Args:
        channel: gate of the channels.
        position: gate of the positions.
        channels: C, of the tensor to gate.
    """

    def __init__(self, channel: nn.Module, position: nn.Module, channels: int) -> None:
        super().__init__(channel, position)
        groups = max(1, channels // 64)
        reach = int(log2(32 / groups)) + 2
        self.channel_conv, self.position_conv = (
            nn.Conv2d(channels, channels, (2 * reach + 1, 1), padding=(reach, 0), groups=groups)
            for _ in range(2)
        )
        self.bn = nn.BatchNorm2d(channels)

    def fuse(self, by_channel: Tensor, by_position: Tensor) -> Tensor:
        """The normalised sum of two convolutions."""
        fused: Tensor = self.bn(self.channel_conv(by_channel) + self.position_conv(by_position))
        return fused


def make_gating(config: GSoPResNetConfig, stage: int, block: int) -> nn.Module:
    """The gating of block ``block`` of stage ``stage``, both from 0."""
    if not config.is_gated(stage, block):
        return Ungated()
    return GATINGS[config.attention](config, stage)


def _channel_gate(config: GSoPResNetConfig, stage: int) -> nn.Module:
    channels = config.stage_channels[stage]
    if config.flavour == "article":
        return ArticleChannelGate(channels, config.reduced_dim)
    return ChannelGate(channels, config.reduced_dim, stride=2 if stage == 0 else 1)


def _position_gate(config: GSoPResNetConfig, stage: int) -> nn.Module:
    return PositionGate(config.stage_channels[stage], config.reduced_dim)


GATINGS: dict[Attention, Callable[[GSoPResNetConfig, int], nn.Module]] = {
    "channel": lambda config, stage: ChannelGating(_channel_gate(config, stage)),
    "position": lambda config, stage: PositionGating(_position_gate(config, stage)),
    "fusion_avg": lambda config, stage: SumFusion(
        _channel_gate(config, stage), _position_gate(config, stage)
    ),
    "fusion_max": lambda config, stage: MaxFusion(
        _channel_gate(config, stage), _position_gate(config, stage)
    ),
    "fusion_concat": lambda config, stage: ConcatFusion(
        _channel_gate(config, stage), _position_gate(config, stage), config.stage_channels[stage]
    ),
    "se": lambda config, stage: ChannelGating(SEGate(config.stage_channels[stage])),
    "none": lambda config, stage: Ungated(),
}
"""How each kind of attention gates a block of the given stage."""

"""What a residual block does with its gates: multiply, and hand them on.

Each class here takes the end of a residual branch, b (N, C, H, W), and returns it gated, beside
the gates by kind.
"""

from collections.abc import Callable

from torch import Tensor, nn

from app.model.config import Attention, GSoPResNetConfig
from app.model.gsop import ArticleChannelGate, ChannelGate, gate_channels

Gated = tuple[Tensor, dict[str, Tensor]]
"""A gated tensor, and the gates that it was gated with, by kind."""


class Ungated(nn.Module):
    """A block without a gate."""

    def forward(self, b: Tensor) -> Gated:
        """``b`` as it is, and no gate."""
        return b, {}


class ChannelGating(nn.Module):
    """b · c."""

    def __init__(self, channel: nn.Module) -> None:
        super().__init__()
        self.channel = channel

    def forward(self, b: Tensor) -> Gated:
        """``b`` gated, and ``channel`` (N, C)."""
        gate = self.channel(b)
        return gate_channels(b, gate), {"channel": gate}


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


GATINGS: dict[Attention, Callable[[GSoPResNetConfig, int], nn.Module]] = {
    "channel": lambda config, stage: ChannelGating(_channel_gate(config, stage)),
}
"""How each kind of attention gates a block of the given stage."""

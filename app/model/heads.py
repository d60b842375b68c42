"""From the last feature map to logits."""

from collections.abc import Callable

from torch import Tensor, nn

from app.model.config import GSoPResNetConfig, Head


class GAPHead(nn.Module):
    """Global average pool and a linear layer: GSoP-Net1."""

    def __init__(self, config: GSoPResNetConfig) -> None:
        super().__init__()
        self.fc = nn.Linear(config.stage_channels[-1], config.num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        """Logits (N, num_classes)."""
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


HEADS: dict[Head, Callable[[GSoPResNetConfig], nn.Module]] = {"gap": GAPHead}
"""The heads by name."""

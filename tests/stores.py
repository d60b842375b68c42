"""Stores with small models that tests make."""

from pathlib import Path

import torch

from gsop.images import InputSpec
from gsop.model.config import GSoPResNetConfig
from gsop.model.resnet import GSoPResNet
from gsop.store.store import publish
from tests.support import TINY


def publish_tiny(
    root: Path,
    *,
    name: str = "tiny",
    version: str = "1",
    seed: int = 0,
    config: GSoPResNetConfig = TINY,
    size: int = 32,
    temperature: float = 1.0,
) -> Path:
    """Publish a small network with random weights; its answers differ between images."""
    torch.manual_seed(seed)
    model = GSoPResNet(config).eval()
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.mul_(10)  # spreads the probabilities
    return publish(
        root,
        model,
        name=name,
        version=version,
        input=InputSpec(
            height=size, width=size, resize=size, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
        ),
        labels=[f"class {i}" for i in range(config.num_classes)],
        metrics={},
        provenance={"made by": "tests"},
        temperature=temperature,
    )

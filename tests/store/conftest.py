"""A tiny network, and a store that holds it as ``tiny/1``."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gsop.images import InputSpec
from gsop.model.config import GSoPResNetConfig
from gsop.model.resnet import GSoPResNet
from gsop.store.store import publish

Publish = Callable[..., Path]

SPEC = InputSpec(height=32, width=32, resize=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
CONFIG = GSoPResNetConfig(depth=18, stem="cifar", base_width=4, reduced_dim=4, num_classes=3)


@pytest.fixture
def model() -> GSoPResNet:
    torch.manual_seed(0)
    return GSoPResNet(CONFIG).eval()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def publish_tiny(root: Path, model: GSoPResNet) -> Publish:
    """``publish`` with every argument given; keywords replace them."""

    def publish_it(**replaced: object) -> Path:
        arguments = {
            "name": "tiny",
            "version": "1",
            "input": SPEC,
            "labels": ["a", "b", "c"],
            "metrics": {"top1": 0.5},
            "provenance": {"recipe": "none"},
        }
        return publish(root, model, **(arguments | replaced))  # type: ignore[arg-type]  # a test's dict

    return publish_it


@pytest.fixture
def folder(publish_tiny: Publish) -> Path:
    return publish_tiny()

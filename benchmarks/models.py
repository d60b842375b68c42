"""The models that are served in the benchmarks, published in a scratch store."""

from pathlib import Path

import torch

from gsop.images import InputSpec
from gsop.model.config import GSoPResNetConfig
from gsop.model.resnet import GSoPResNet
from gsop.store.store import publish

DIGITS = Path(__file__).parent.parent / "model_store" / "digits"
NAMES = ("null", "digits", "resnet50")

INPUT = InputSpec(
    height=224, width=224, resize=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
"""ImageNet's usual."""


NULL = GSoPResNetConfig(depth=18, base_width=8, reduced_dim=8)
"""Of the model ``null``: a small network, which is never run."""


def backend_of(name: str) -> str:
    """The value of ``GSOP_BACKEND`` for a model."""
    return "null" if name == "null" else "torch"


def publish_model(store: Path, name: str, config: GSoPResNetConfig) -> None:
    """Put one network with random weights into ``store``."""
    publish(
        store,
        GSoPResNet(config).eval(),
        name=name,
        version="1",
        input=INPUT,
        labels=[f"class {i}" for i in range(config.num_classes)],
        metrics={},
        provenance={"made by": "benchmarks"},
    )


def publish_models(store: Path) -> None:
    """Put every model of ``NAMES`` into ``store``, unless it is there.

    The speed of a network does not depend on its weights, so random ones serve. ``null`` has the
    input and the classes of a ResNet-50 at 224; its own network is never run.
    """
    torch.manual_seed(0)
    configs = {
        "null": NULL,
        "resnet50": GSoPResNetConfig(depth=50),
    }
    for name, config in configs.items():
        if not (store / name / "1").exists():
            publish_model(store, name, config)
    if not (store / "digits").exists():
        (store / "digits").symlink_to(DIGITS.resolve())

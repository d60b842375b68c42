"""What each variant costs for one image: the table of docs/model.md.

python -m benchmarks.variants
"""

from dataclasses import replace

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from gsop.model.config import GSoPResNetConfig
from gsop.model.cost import cost

IMAGENET = GSoPResNetConfig()
CIFAR = GSoPResNetConfig(depth=164, stem="cifar", num_classes=100)

VARIANTS = {
    "ResNet-50, no gates": replace(IMAGENET, gated_blocks="none", last_stride=2),
    "the same, `last_stride` 1": replace(IMAGENET, gated_blocks="none"),
    "the same with `se` gates": replace(IMAGENET, attention="se"),
    "GSoP-Net1, `channel`": IMAGENET,
    "GSoP-Net1, `channel`, `article` flavour": replace(IMAGENET, flavour="article"),
    "GSoP-Net1, `channel`, `last_stride` 2": replace(IMAGENET, last_stride=2),
    "GSoP-Net1, `channel`, `gated_blocks` all": replace(IMAGENET, gated_blocks="all"),
    "GSoP-Net1, `position`": replace(IMAGENET, attention="position"),
    "GSoP-Net1, `fusion_avg` or `fusion_max`": replace(IMAGENET, attention="fusion_avg"),
    "GSoP-Net1, `fusion_concat`": replace(IMAGENET, attention="fusion_concat"),
    "GSoP-Net2, `channel`": replace(IMAGENET, head="isqrt"),
    "GSoP-Net1, depth 18": replace(IMAGENET, depth=18),
    "GSoP-Net1, depth 101": replace(IMAGENET, depth=101),
    "ResNet-164 for CIFAR, no gates": replace(CIFAR, gated_blocks="none"),
    "GSoP-Net1, depth 164": CIFAR,
    "GSoP-Net2, depth 164": replace(CIFAR, head="isqrt"),
}
"""By name; depth 50 where none is said."""


def row(name: str) -> tuple[str, ...]:
    """A variant's name, image size, parameters, multiply-adds, and the gates' share of both."""
    config = VARIANTS[name]
    size = 224 if config.stem == "imagenet" else 32
    found = cost(config, size, size)
    return (
        name,
        f"{size}",
        f"{found.parameters / 1e6:.2f} M",
        f"{found.multiply_adds / 1e9:.2f} G",
        f"{found.gate_parameters / found.parameters:.1%}",
        f"{found.gate_share:.1%}",
    )


def main() -> None:
    """Print the table."""
    columns = ("network", "image", "parameters", "multiply-adds", "gates: parameters", "work")
    table = Table(*columns, box=MARKDOWN)
    for name in VARIANTS:
        table.add_row(*row(name))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()

"""What half precisions cost in accuracy, on the CPU.

    python -m benchmarks.precision

Two networks: the shipped model on the scans that it was not trained on, and ResNet-50s of random
weights on random images. Against float32: the largest difference of any gate value, that of any
logit relative to the largest logit, and the share of images with the same best class.
"""

import argparse

import torch
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.half_precision import (
    HALVES,
    deviation,
    random_images,
    random_resnet50,
    shipped_digits,
)
from gsop.model.resnet import GSoPResNet


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100, help="for the ResNet-50s")
    parser.add_argument("--size", type=int, default=64, help="of those images")
    arguments = parser.parse_args()
    columns = ("network", "images", "weights", "BNs", "gates", "logits", "same best class")
    table = Table(*columns, box=MARKDOWN)
    add_rows(table, "digits/1", *shipped_digits())
    images = random_images(1, arguments.images, arguments.size)
    for name in ("resnet50_net1_channel", "resnet50_net2_channel"):
        add_rows(table, name, random_resnet50(name, arguments.size), images)
    Console(width=140).print(table)


def add_rows(table: Table, name: str, model: GSoPResNet, images: Tensor) -> None:
    """A row for each half precision, with BNs as they are and folded, as they are served."""
    for half in HALVES:
        for fold in (False, True):
            found = deviation(model, images, half, fold=fold)
            table.add_row(
                name,
                str(len(images)),
                str(half).removeprefix("torch."),
                "folded" if fold else "kept",
                f"{found.gate:.4f}",
                f"{found.logit:.1e}",
                f"{found.agreement:.1%}",
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

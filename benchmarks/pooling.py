"""What pooling can read, and where: why the textures do not part the gates.

    python -m benchmarks.pooling

Two tables. The first: one convolution, with a ReLU or without, then one kind of pooling and a
linear layer, on the textures of ``compare-textures``. The second: the ResNet-18 of that recipe,
without gates, under the head of Net2 and under heads that differ from it in one thing each.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import torch
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.machine import describe
from gsop.model.gsop import covariance
from gsop.model.heads import ISqrtHead
from gsop.model.isqrt import matrix_sqrt
from gsop.model.resnet import GSoPResNet
from gsop.train.data.textures import HELD_OUT_IMAGES, TRAINING_IMAGES, Textures
from gsop.train.evaluate import normalise
from gsop.train.loop import train
from gsop.train.optimizer import make_optimizer, set_learning_rate
from gsop.train.presets import COMPARE_TEXTURES

FILTERS = 24
"""Of the one convolution: two for each band of the textures."""

Results = dict[str, list[float]]
"""Held-out top-1, one a seed, by what was trained."""


def second_moment(x: Tensor) -> Tensor:
    """A covariance that is not centred, (N, d, d): it holds the means, squared."""
    features = x.flatten(2)
    return features @ features.mT / features.shape[2]


# ── one convolution ──────────────────────────────────────────────────────────────────────────────


def mean(x: Tensor) -> Tensor:
    """First-order pooling, (N, d)."""
    return x.mean((2, 3))


def triangle(matrix: Tensor) -> Tensor:
    """What a symmetric matrix holds, once: (N, d·(d+1)/2)."""
    rows, columns = torch.tril_indices(*matrix.shape[1:])
    return matrix[:, rows, columns]


POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": mean,
    "covariance": lambda x: triangle(covariance(x)),
    "its square root": lambda x: triangle(matrix_sqrt(covariance(x))),
}


class OneConvolution(nn.Module):
    """7×7 convolution, stride 2; BN; perhaps ReLU; pooling; linear layer."""

    def __init__(self, rectified: bool, pooling: str, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, FILTERS, 7, stride=2, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(FILTERS)
        self.rectify = nn.ReLU() if rectified else nn.Identity()
        self.pool = POOLINGS[pooling]
        outputs = FILTERS if pooling == "mean" else FILTERS * (FILTERS + 1) // 2
        self.head = nn.Linear(outputs, classes)

    def forward(self, images: Tensor) -> Tensor:  # (N, 3, H, W)
        """Logits (N, classes)."""
        logits: Tensor = self.head(self.pool(self.rectify(self.bn(self.conv(images)))))
        return logits


def one_convolution(seeds: int) -> Results:
    """Each kind of pooling behind one convolution, trained as ``compare-textures`` trains."""
    recipe = COMPARE_TEXTURES
    data = Textures(recipe.input.height, recipe.input.width)
    drawn = [data.training_image(n, 0) for n in range(TRAINING_IMAGES + HELD_OUT_IMAGES)]
    pixels = torch.from_numpy(np.stack([image for image, _ in drawn]))
    labels = torch.tensor([label for _, label in drawn])

    def top1(rectified: bool, pooling: str, seed: int) -> float:
        torch.manual_seed(seed)
        network = OneConvolution(rectified, pooling, len(data.labels))
        optimizer = make_optimizer(network, recipe.optimizer)
        for step, chosen in enumerate(batches(seed)):
            set_learning_rate(optimizer, recipe, step, TRAINING_IMAGES // recipe.batch_size)
            logits = network(normalise(pixels[chosen], recipe.input))
            loss = F.cross_entropy(logits, labels[chosen], label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        network.eval()
        right = 0
        with torch.inference_mode():
            for at in range(TRAINING_IMAGES, len(labels), 200):
                logits = network(normalise(pixels[at : at + 200], recipe.input))
                right += int((logits.argmax(1) == labels[at : at + 200]).sum())
        return right / HELD_OUT_IMAGES

    def batches(seed: int) -> Iterator[Tensor]:
        rng = np.random.default_rng(seed)
        steps = recipe.schedule.steps or 0
        for _ in range(steps):
            yield torch.from_numpy(rng.choice(TRAINING_IMAGES, recipe.batch_size, replace=False))

    return {
        f"{'ReLU' if rectified else 'linear'}, {pooling}": [
            top1(rectified, pooling, seed) for seed in range(seeds)
        ]
        for rectified in (False, True)
        for pooling in POOLINGS
    }


# ── the head of Net2 ─────────────────────────────────────────────────────────────────────────────


class SecondOrderHead(ISqrtHead):
    """The head of Net2, with another matrix or another root in place of its own."""

    matrix: Callable[[Tensor], Tensor]
    root: Callable[[Tensor], Tensor]

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        """Logits (N, num_classes)."""
        reduced = F.relu(self.reduce_bn(self.reduce(x)))
        logits: Tensor = self.fc(self.root(self.matrix(reduced)).flatten(1)[:, self.triangle])
        return logits


HEADS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "Net2's: centred, root": (covariance, matrix_sqrt),
    "centred, no root": (covariance, lambda matrix: matrix),
    "not centred, root": (second_moment, matrix_sqrt),
    "not centred, no root": (second_moment, lambda matrix: matrix),
}


def heads(seeds: int) -> Results:
    """The ungated ResNet-18 of ``compare-textures`` under each of :data:`HEADS`."""
    config = replace(COMPARE_TEXTURES.config, head="isqrt", attention="none")

    def top1(name: str, seed: int) -> float:
        recipe = COMPARE_TEXTURES.model_copy(update={"config": config, "seed": seed, "workers": 0})
        torch.manual_seed(seed)
        network = GSoPResNet(config)
        head = SecondOrderHead(config)
        head.load_state_dict(network.head.state_dict())
        head.matrix, head.root = HEADS[name]
        network.head = head
        with tempfile.TemporaryDirectory() as scratch:
            run = Path(scratch) / "run"
            return train(recipe, run, initial=network, device="cpu", progress=False).top1

    return {name: [top1(name, seed) for seed in range(seeds)] for name in HEADS}


# ── what is said ─────────────────────────────────────────────────────────────────────────────────


def as_table(title: str, found: Results) -> Table:
    """Mean and sample deviation over the seeds."""
    table = Table(title, "top-1", box=MARKDOWN)
    for name, values in found.items():
        spread = stdev(values) if len(values) > 1 else 0.0
        table.add_row(name, f"{fmean(values):.1%} ± {spread:.1%}")
    return table


def main() -> None:
    """Train, print, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=100)
    first = one_convolution(options.seeds)
    console.print(as_table("one convolution", first))
    second = heads(options.seeds)
    console.print(as_table("head of the ResNet-18", second))
    if options.output is not None:
        result = {"machine": describe(), "one_convolution": first, "heads": second}
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""The gate's forward pass against the article's, on the CPU: the whole, and part by part.

    python -m benchmarks.gate

The article's way is what its code does: one image's covariance at a time, each appended to a
growing stack, and a grouped convolution over the rows. All ways are timed in one run, in turns, on
the same weights and input, and must give the same gate. A time is that of the quickest run: what
the machine can do when nobody else uses it.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial

import torch
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from gsop.model.folding import fold_batch_norms
from gsop.model.gsop import ArticleChannelGate, RowWiseConv, covariance

REDUCED_DIM = 128
SHAPES = ((256, 24), (1024, 14), (2048, 14))
"""Channels and side: the article's example, and the last two stages of a ResNet-50 at 224×224."""


def article_gate(gate: ArticleChannelGate, x: Tensor) -> Tensor:
    """The gate (N, C) of features (N, C, H, W), computed the article's way."""
    reduced = F.relu(gate.reduce_bn(gate.reduce(x)))
    excite = gate.excite
    summed = excite.row_bn(grouped_conv(excite.row_conv, looped_covariances(reduced)))
    return torch.sigmoid(excite.expand_bn(excite.expand(summed[:, :, None, None]))).flatten(1)


def looped_covariances(reduced: Tensor) -> Tensor:
    """Covariances (N, d, d) of features (N, d, H, W), as sums, in a stack that grows one by one."""
    stack = reduced.new_empty(0, reduced.shape[1], reduced.shape[1])
    for sample in reduced:
        positions = sample.flatten(1).T  # (H·W, d)
        centred = positions - positions.mean(0)
        stack = torch.cat([stack, (centred.T @ centred)[None]])
    return stack


def grouped_conv(layer: RowWiseConv, matrix: Tensor) -> Tensor:
    """The row-wise convolution as PyTorch's own grouped convolution."""
    convolved = F.conv2d(matrix.unsqueeze(-1), layer.weight, layer.bias, groups=layer.groups)
    return convolved.flatten(1)


def milliseconds(ways: Sequence[Callable[[], Tensor]], rounds: int) -> list[float]:
    """The quickest run of each way, which all must give the same."""
    for way in ways:
        torch.testing.assert_close(way(), ways[0](), atol=1e-4, rtol=1e-4)
    fastest = [float("inf")] * len(ways)
    for _ in range(rounds):
        for index, way in enumerate(ways):
            start = time.perf_counter()
            way()
            fastest[index] = min(fastest[index], time.perf_counter() - start)
    return [seconds * 1000 for seconds in fastest]


def whole_gates(batches: Sequence[int], threads: Sequence[int], rounds: int) -> Table:
    """The whole gate, in eval mode."""
    table = _table("features", "batch", "threads", "article", "ours", "as served", "faster")
    for channels, side in SHAPES:
        gate = _gate(channels)
        served = deepcopy(gate).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs
        fold_batch_norms(served)
        for batch in batches:
            x = torch.randn(batch, channels, side, side)
            x_served = x.to(memory_format=torch.channels_last)
            ways = partial(article_gate, gate, x), partial(gate, x), partial(served, x_served)
            for count in threads:
                torch.set_num_threads(count)
                times = milliseconds(ways, rounds)
                faster = " / ".join(f"{times[0] / own:.1f}×" for own in times[1:])
                shape = f"{channels}×{side}×{side}"
                table.add_row(shape, str(batch), str(count), *map(_shown, times), faster)
    return table


def parts(batch: int, rounds: int) -> Table:
    """The parts of the article's example, one after the other, with one thread."""
    table = _table("part", "article", "ours", "faster")
    torch.set_num_threads(1)
    channels, side = SHAPES[0]
    gate = _gate(channels)
    x = torch.randn(batch, channels, side, side)
    convolved = gate.reduce(x)
    reduced = F.relu(gate.reduce_bn(convolved))
    covariances = covariance(reduced) * side**2
    row_conv = gate.excite.row_conv
    conv, normalise = partial(gate.reduce, x), lambda: F.relu(gate.reduce_bn(convolved))
    rows: list[tuple[str, Callable[[], Tensor], Callable[[], Tensor]]] = [
        ("1×1 convolution", conv, conv),
        ("BN, ReLU", normalise, normalise),
        (
            "covariances",
            partial(looped_covariances, reduced),
            lambda: covariance(reduced) * side**2,
        ),
        (
            "row-wise convolution",
            partial(grouped_conv, row_conv, covariances),
            partial(row_conv, covariances),
        ),
    ]
    for name, *ways in rows:
        times = milliseconds(ways, rounds)
        table.add_row(name, _shown(times[0]), _shown(times[-1]), f"{times[0] / times[-1]:.1f}×")
    return table


def _gate(channels: int) -> ArticleChannelGate:
    """A gate in eval mode whose covariances are normalised, so that it is not saturated."""
    gate = ArticleChannelGate(channels, REDUCED_DIM).train()
    gate.reduce_bn.momentum = gate.excite.row_bn.momentum = gate.excite.expand_bn.momentum = 1.0
    gate(torch.randn(8, channels, 14, 14))
    return gate.eval()


def _table(*columns: str) -> Table:
    table = Table(box=MARKDOWN)
    for column in columns:
        table.add_column(column, justify="left" if column in ("features", "part") else "right")
    return table


def _shown(milliseconds: float) -> str:
    return f"{milliseconds:.2f} ms"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    console = Console()
    console.print(f"torch {torch.__version__}, d = {REDUCED_DIM}")
    with torch.inference_mode():
        console.print(whole_gates(arguments.batches, arguments.threads, arguments.rounds))
        console.print(f"{SHAPES[0]}, batch {max(arguments.batches)}, 1 thread, by part:")
        console.print(parts(max(arguments.batches), arguments.rounds))


if __name__ == "__main__":
    main()

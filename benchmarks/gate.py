"""The gate's forward pass against the article's loop over the batch, on the CPU.

    python -m benchmarks.gate

Both are timed in one run, on the same weights and input, and must give the same gate. The second
table times the row-wise convolution alone: the grouped convolution against the product of
:class:`app.model.gsop.RowWiseConv`. Times are medians.
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F
from torch.utils.benchmark import Timer

from app.model.gsop import ArticleChannelGate, RowWiseConv

CHANNELS, REDUCED_DIM, SIDE = 256, 128, 24
"""The article's example: 32 feature maps of 256×24×24, reduced to 128 channels."""


def looped_gate(gate: ArticleChannelGate, x: Tensor) -> Tensor:
    """The gate as the article computes it: one covariance at a time, then a grouped convolution."""
    reduced = F.relu(gate.reduce_bn(gate.reduce(x)))
    covariances = []
    for sample in reduced:
        positions = sample.flatten(1).T  # (H·W, d)
        centred = positions - positions.mean(0)
        covariances.append(centred.T @ centred)
    excite = gate.excite
    summed = excite.row_bn(grouped_conv(excite.row_conv, torch.stack(covariances)))
    return torch.sigmoid(excite.expand_bn(excite.expand(summed[:, :, None, None]))).flatten(1)


def grouped_conv(layer: RowWiseConv, matrix: Tensor) -> Tensor:
    """The row-wise convolution as PyTorch's own grouped convolution."""
    convolved = F.conv2d(matrix.unsqueeze(-1), layer.weight, layer.bias, groups=layer.groups)
    return convolved.flatten(1)


def milliseconds(call: Callable[[], Tensor]) -> float:
    """The median time of one call."""
    timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=2).median * 1000


def compare(
    table: Table, batch: int, baseline: Callable[[], Tensor], own: Callable[[], Tensor]
) -> None:
    """Add a row: both times, after checking that both answer the same."""
    torch.testing.assert_close(own(), baseline(), atol=1e-4, rtol=1e-4)
    slow, fast = milliseconds(baseline), milliseconds(own)
    table.add_row(str(batch), f"{slow:.2f} ms", f"{fast:.2f} ms", f"{slow / fast:.1f}×")


def gates(batches: list[int]) -> Table:
    """The whole gate, in eval mode."""
    table = Table("batch", "article's loop", "ours", "faster", title="gate of 256×24×24, d = 128")
    gate = ArticleChannelGate(CHANNELS, REDUCED_DIM).eval()
    for batch in batches:
        x = torch.randn(batch, CHANNELS, SIDE, SIDE)
        compare(table, batch, partial(looped_gate, gate, x), partial(gate, x))
    return table


def row_wise_convs(batches: list[int]) -> Table:
    """The row-wise convolution alone."""
    table = Table("batch", "grouped conv", "ours", "faster", title="row-wise convolution, d = 128")
    layer = RowWiseConv(REDUCED_DIM)
    for batch in batches:
        x = torch.randn(batch, REDUCED_DIM, REDUCED_DIM)
        compare(table, batch, partial(grouped_conv, layer, x), partial(layer, x))
    return table


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    console = Console()
    console.print(f"torch {torch.__version__}, {arguments.threads} threads")
    with torch.inference_mode():
        console.print(gates(arguments.batches), row_wise_convs(arguments.batches))


if __name__ == "__main__":
    main()

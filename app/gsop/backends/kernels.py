"""Kernels of our own, in Triton, each beside its twin of plain operators, which says what it does.

A kernel is compiled at its first launch, at warm-up, by Triton, with the machine's C compiler; what
it made lies in ``TRITON_CACHE_DIR``.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024
"""Numbers that one program of a kernel computes."""


def gated_sum_twin(b: Tensor, gate: Tensor, shortcut: Tensor) -> Tensor:
    """relu(b·c + shortcut), each number rounded once.

    Args:
        b: (N, C, H, W).
        gate: c, (N, C), in float32.
        shortcut: (N, C, H, W).
    """
    total = b.float() * gate[:, :, None, None] + shortcut.float()
    return torch.relu(total).to(b.dtype)


@triton.jit  # type: ignore[untyped-decorator]  # triton leaves it untyped
def _gated_sum(b: Any, gate: Any, shortcut: Any, out: Any, count: Any, plane: Any, channels: Any,
               block: tl.constexpr) -> None:  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = at < count
    image, channel = at // (plane * channels), at % channels  # channels lie last
    c = tl.load(gate + image * channels + channel, inside)
    total = tl.load(b + at, inside).to(tl.float32) * c + tl.load(shortcut + at, inside)
    tl.store(out + at, tl.maximum(total, 0.0), inside)


def gated_sum(b: Tensor, gate: Tensor, shortcut: Tensor) -> Tensor:
    """:func:`gated_sum_twin` in one pass: two maps are read, one is written."""
    b, shortcut = (x.contiguous(memory_format=torch.channels_last) for x in (b, shortcut))
    out = torch.empty_like(b)
    channels, plane = b.shape[1], b.shape[2] * b.shape[3]
    grid = (triton.cdiv(b.numel(), BLOCK),)
    _gated_sum[grid](b, gate.contiguous(), shortcut, out, b.numel(), plane, channels, block=BLOCK)
    return out

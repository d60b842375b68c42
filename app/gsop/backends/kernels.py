"""Kernels of our own, in Triton, each beside its twin of plain operators, which says what it does.

A kernel is compiled at its first launch, at warm-up, by Triton, with the machine's C compiler; what
it made lies in ``TRITON_CACHE_DIR``. Triton's compiler reads annotations as it reads code: names of
other modules than its own are errors there, though its interpreter takes them.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gsop.images.planes import HEADER_BYTES

BLOCK, PIXELS = 1024, 256
"""Numbers, and pixels, that one program of a kernel computes."""


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
def _gated_sum(
    b: tl.tensor,
    gate: tl.tensor,
    shortcut: tl.tensor,
    out: tl.tensor,
    count: tl.tensor,
    plane: tl.tensor,
    channels: tl.tensor,
    block: tl.constexpr,
) -> None:
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


HEADER = tl.constexpr(HEADER_BYTES)


@triton.jit  # type: ignore[untyped-decorator]  # as above
def _load(body: tl.tensor, at: tl.tensor, last: tl.tensor, inside: tl.tensor) -> tl.tensor:
    """A byte of a bundle. A header comes from who reads strangers' files: it may say anything."""
    return tl.load(body + tl.minimum(tl.maximum(at, 0), last), inside, 0).to(tl.float32)


@triton.jit  # type: ignore[untyped-decorator]  # as above
def _chroma(
    body: tl.tensor,
    begin: tl.tensor,
    y: tl.tensor,
    x: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    last: tl.tensor,
    inside: tl.tensor,
) -> tl.tensor:
    """A sample of chroma at luma's ``y``, ``x`` in twice its grid, as libjpeg interpolates it."""
    near_y, near_x = y // 2, x // 2
    far_y = tl.minimum(tl.maximum(near_y - 1 + 2 * (y % 2), 0), height - 1)
    far_x = tl.minimum(tl.maximum(near_x - 1 + 2 * (x % 2), 0), width - 1)
    total = 9.0 * _load(body, begin + near_y * width + near_x, last, inside)
    total += 3.0 * _load(body, begin + near_y * width + far_x, last, inside)
    total += 3.0 * _load(body, begin + far_y * width + near_x, last, inside)
    total += _load(body, begin + far_y * width + far_x, last, inside)
    return total / 16.0 - 128.0


@triton.jit  # type: ignore[untyped-decorator]  # as above
def _byte(value: tl.tensor) -> tl.tensor:
    return tl.floor(tl.minimum(tl.maximum(value, 0.0), 255.0) + 0.5)


@triton.jit  # type: ignore[untyped-decorator]  # as above
def _fit_bundles(
    bundles: tl.tensor,
    headers: tl.tensor,
    out: tl.tensor,
    size: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    block: tl.constexpr,
) -> None:
    number = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * block + tl.arange(0, block)
    inside = at < height * width
    head = headers + number * (size // 4)
    body = bundles + number * size + HEADER
    last = size - HEADER - 1
    to = out + number * height * width * 3 + at * 3
    if tl.load(head) == 0:  # pixels
        for channel in tl.static_range(3):
            tl.store(to + channel, tl.load(body + at * 3 + channel, inside), inside)
    else:
        luma_h, luma_w = tl.load(head + 1), tl.load(head + 2)
        chroma_h, chroma_w = tl.load(head + 3), tl.load(head + 4)
        first_y, first_x = tl.load(head + 5), tl.load(head + 6)
        blue = luma_h * luma_w
        red = blue + chroma_h * chroma_w
        r = tl.zeros((block,), tl.float32)
        g = tl.zeros((block,), tl.float32)
        b = tl.zeros((block,), tl.float32)
        # The mean of four samples, each of four pixels around it.
        for sample in range(4):  # unrolled it would take four times as long to compile
            place_y = (2 * (at // width) + sample // 2 + 0.5) * luma_h / (2 * height) - 0.5
            place_x = (2 * (at % width) + sample % 2 + 0.5) * luma_w / (2 * width) - 0.5
            place_y = tl.minimum(tl.maximum(place_y, 0.0), luma_h - 1.0)
            place_x = tl.minimum(tl.maximum(place_x, 0.0), luma_w - 1.0)
            sr = tl.zeros((block,), tl.float32)
            sg = tl.zeros((block,), tl.float32)
            sb = tl.zeros((block,), tl.float32)
            for corner in tl.static_range(4):
                y = tl.minimum(tl.floor(place_y).to(tl.int32) + corner // 2, luma_h - 1)
                x = tl.minimum(tl.floor(place_x).to(tl.int32) + corner % 2, luma_w - 1)
                part_y = place_y - tl.floor(place_y)
                part_x = place_x - tl.floor(place_x)
                share_y = part_y if corner // 2 else 1.0 - part_y
                share_x = part_x if corner % 2 else 1.0 - part_x
                share = share_y * share_x
                at_y, at_x = y + first_y, x + first_x
                luma = _load(body, y * luma_w + x, last, inside)
                cb = _chroma(body, blue, at_y, at_x, chroma_h, chroma_w, last, inside)
                cr = _chroma(body, red, at_y, at_x, chroma_h, chroma_w, last, inside)
                sr += share * _byte(luma + 1.402 * cr)
                sg += share * _byte(luma - 0.344136 * cb - 0.714136 * cr)
                sb += share * _byte(luma + 1.772 * cb)
            r += _byte(sr)
            g += _byte(sg)
            b += _byte(sb)
        tl.store(to, _byte(r / 4.0).to(tl.uint8), inside)
        tl.store(to + 1, _byte(g / 4.0).to(tl.uint8), inside)
        tl.store(to + 2, _byte(b / 4.0).to(tl.uint8), inside)


def fit_bundles(bundles: Tensor, out: Tensor) -> None:
    """:func:`gsop.backends.bundles.fit_bundles_twin`, for all images in one launch."""
    count, height, width, _ = out.shape
    grid = (count, triton.cdiv(height * width, PIXELS))
    headers, size = bundles.view(torch.int32), bundles.shape[1]
    _fit_bundles[grid](bundles, headers, out, size, height, width, block=PIXELS)

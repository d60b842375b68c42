"""From an image's bundle to the network's pixels, in plain operators: what the kernel does.

The steps are those of :mod:`gsop.images`, which has them rounded to bytes as here: chroma is
interpolated as libjpeg does it, colours are JFIF's, and each pixel is the mean of four bilinear
samples.
"""

import torch
from torch import Tensor

from gsop.images.planes import HEADER_BYTES, PLANES


def fit_bundles_twin(bundles: Tensor, out: Tensor) -> None:
    """Make pixels of bundles.

    Args:
        bundles: (N, bytes) uint8, as :mod:`gsop.images.planes` has them.
        out: (N, H, W, 3) uint8, which receives R, G, B.
    """
    count, height, width, _ = out.shape
    head = bundles[:, :HEADER_BYTES].contiguous().view(torch.int32).long()
    body = bundles[:, HEADER_BYTES:]
    pixels = body[:, : height * width * 3].reshape(out.shape)
    kind, luma_h, luma_w, chroma_h, chroma_w, first_y, first_x = (
        head[:, i].view(count, 1, 1) for i in range(7)
    )
    luma_h, luma_w = luma_h.clamp(min=1), luma_w.clamp(min=1)  # of a bundle of pixels: whatever
    total = torch.zeros(out.shape, device=out.device)
    for sample in range(4):
        y = _places(height, sample // 2, luma_h).view(count, height, 1)
        x = _places(width, sample % 2, luma_w).view(count, 1, width)
        mean = torch.zeros_like(total)
        for corner in range(4):
            at_y = torch.minimum(y.floor().long() + corner // 2, luma_h - 1)
            at_x = torch.minimum(x.floor().long() + corner % 2, luma_w - 1)
            share_y, share_x = (
                part if far else 1 - part
                for part, far in ((y - y.floor(), corner // 2), (x - x.floor(), corner % 2))
            )
            luma = _load(body, at_y * luma_w + at_x)
            blue_at = luma_h * luma_w
            cb, cr = (
                _chroma(body, begin, at_y + first_y, at_x + first_x, chroma_h, chroma_w)
                for begin in (blue_at, blue_at + chroma_h * chroma_w)
            )
            colours = (
                luma + 1.402 * cr,
                luma - 0.344136 * cb - 0.714136 * cr,
                luma + 1.772 * cb,
            )
            rgb = torch.stack([_byte(colour) for colour in colours], dim=3)
            mean += (share_y * share_x)[..., None] * rgb
        total += _byte(mean)
    made = _byte(total / 4).to(torch.uint8)
    out.copy_(torch.where((kind == PLANES)[..., None], made, pixels))


def _places(length: int, half: int, side: Tensor) -> Tensor:
    """Where the samples lie on a side of luma (N, 1, 1): (N, 1, length)."""
    steps = 2 * torch.arange(length, device=side.device) + half + 0.5
    places = steps * side / (2 * length) - 0.5
    return torch.minimum(places.clamp(min=0), side - 1.0)


def _chroma(
    body: Tensor, begin: Tensor, y: Tensor, x: Tensor, height: Tensor, width: Tensor
) -> Tensor:
    near_y, near_x = y // 2, x // 2
    zero = torch.zeros_like(height)
    far_y = torch.minimum(torch.maximum(near_y - 1 + 2 * (y % 2), zero), height - 1)
    far_x = torch.minimum(torch.maximum(near_x - 1 + 2 * (x % 2), zero), width - 1)
    pairs = ((9, near_y, near_x), (3, near_y, far_x), (3, far_y, near_x), (1, far_y, far_x))
    total = sum(weight * _load(body, begin + at_y * width + at_x) for weight, at_y, at_x in pairs)
    assert isinstance(total, Tensor)  # noqa: S101  # there are four
    return total / 16 - 128


def _load(body: Tensor, at: Tensor) -> Tensor:
    """Bytes at (N, H, W), as float32; outside of the bundle, any."""
    inside = at.clamp(0, body.shape[1] - 1)
    return body.gather(1, inside.flatten(1)).view(at.shape).float()


def _byte(value: Tensor) -> Tensor:
    return (value.clamp(0, 255) + 0.5).floor()

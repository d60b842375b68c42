"""Random drawings of handwritten digits: what an 8×8 scan could look like in a client's image.

A scan is a blurry 8×8 map of ink. A client may send it as it is, or a digit drawn on a canvas or
photographed: dark on light, thin or thick, crisp, anywhere in the frame. Every function works on
a whole batch and draws from the generator that it is given.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class DrawingSpec:
    """How far the drawings stray from the scans. Ranges are (low, high), uniform unless said.

    Attributes:
        plain: share of the batch that keeps the scan's geometry, enlarged as serving enlarges it.
        rotation: degrees, either way.
        shear: horizontal shift per unit of height, either way.
        scale: height of the digit in heights of the frame; log-uniform.
        aspect: width over height relative to the scan's; log-uniform.
        overshoot: how far over the frame's edge a digit may reach, in half frames.
        elastic: amplitude of a smooth random displacement, in half frames.
        thinning: share of the surrounding ink that is subtracted before the threshold.
        threshold: of ink against ground, relative to what then is the peak.
        softness: width of the ink's edge, relative to the same; log-uniform.
        contrast: between ink and ground, of the full range.
        noise: standard deviation of the pixels, of the full range.
    """

    plain: float = 0.25
    rotation: float = 15.0
    shear: float = 0.25
    scale: tuple[float, float] = (0.5, 1.1)
    aspect: tuple[float, float] = (0.7, 1.3)
    overshoot: float = 0.1
    elastic: float = 0.08
    thinning: tuple[float, float] = (0.0, 0.8)
    threshold: tuple[float, float] = (0.25, 0.6)
    softness: tuple[float, float] = (0.03, 0.3)
    contrast: tuple[float, float] = (0.4, 1.0)
    noise: tuple[float, float] = (0.0, 0.06)


def draw(scans: Tensor, size: int, how: DrawingSpec, generator: Generator) -> Tensor:
    """A random drawing of each scan.

    Args:
        scans: ink of 0 to 1, (N, 1, 8, 8) float32.
        size: height and width of the drawings.
        how: how far they stray from the scans.
        generator: source of all randomness, on the scans' device.

    Returns:
        Pixels as a decoder would deliver them, (N, size, size, 3) uint8.
    """
    plain = F.interpolate(scans, size=(size, size), mode="bilinear")
    drawn = _inked(_moved(scans, size, how, generator), how, generator)
    keep = _uniform(len(scans), (0.0, 1.0), generator) < how.plain
    return _pixels(torch.where(keep, plain, drawn), how, generator)


def _moved(scans: Tensor, size: int, how: DrawingSpec, generator: Generator) -> Tensor:
    """The scans under a random affine map and a smooth displacement, (N, 1, size, size)."""
    n = len(scans)
    angle = torch.deg2rad(_symmetric(n, how.rotation, generator)).flatten()
    shear = _symmetric(n, how.shear, generator).flatten()
    height = _log_uniform(n, how.scale, generator).flatten()
    width = height * _log_uniform(n, how.aspect, generator).flatten()
    cos, sin = torch.cos(angle), torch.sin(angle)
    # Rows map the drawing's (x, y) in [-1, 1] back to the scan's: first unrotate, then unshear.
    matrix = torch.stack(
        [
            torch.stack([(cos + shear * sin) / width, (sin - shear * cos) / width], dim=1),
            torch.stack([-sin / height, cos / height], dim=1),
        ],
        dim=1,
    )
    reach = torch.stack([width, height], dim=1)
    room = (1 - reach).clamp(min=0) + how.overshoot
    centre = room * (2 * torch.rand(n, 2, generator=generator, device=scans.device) - 1)
    offset = -torch.einsum("nij,nj->ni", matrix, centre)
    grid = F.affine_grid(
        torch.cat([matrix, offset.unsqueeze(2)], dim=2), [n, 1, size, size], align_corners=False
    )
    coarse = torch.randn(n, 2, 4, 4, generator=generator, device=scans.device) * how.elastic
    smooth = F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)
    return F.grid_sample(
        scans, grid + smooth.permute(0, 2, 3, 1), mode="bicubic", align_corners=False
    ).clamp(0, 1)


def _inked(ink: Tensor, how: DrawingSpec, generator: Generator) -> Tensor:
    """The ink with strokes of another width and sharpness, 0 to 1."""
    n = len(ink)
    around = F.avg_pool2d(ink, kernel_size=7, stride=1, padding=3)
    thinned = (ink - _uniform(n, how.thinning, generator) * around).clamp(min=0)
    thinned = thinned / thinned.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-3)
    threshold = _uniform(n, how.threshold, generator)
    softness = _log_uniform(n, how.softness, generator)
    return torch.sigmoid((thinned - threshold) / softness)


def _pixels(ink: Tensor, how: DrawingSpec, generator: Generator) -> Tensor:
    """Ink on a ground, light on dark or dark on light, with noise."""
    n = len(ink)
    contrast = _uniform(n, how.contrast, generator)
    dark = (1 - contrast) * _uniform(n, (0.0, 1.0), generator)
    inverted = _uniform(n, (0.0, 1.0), generator) < 0.5
    grey = dark + contrast * torch.where(inverted, 1 - ink, ink)
    noise = torch.randn(grey.shape, generator=generator, device=grey.device)
    grey = grey + _uniform(n, how.noise, generator) * noise
    pixels = (grey.clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).expand(-1, -1, -1, 3)


def _uniform(n: int, bounds: tuple[float, float], generator: Generator) -> Tensor:
    low, high = bounds
    sample = torch.rand(n, 1, 1, 1, generator=generator, device=generator.device)
    return low + (high - low) * sample


def _symmetric(n: int, bound: float, generator: Generator) -> Tensor:
    return _uniform(n, (-bound, bound), generator)


def _log_uniform(n: int, bounds: tuple[float, float], generator: Generator) -> Tensor:
    low, high = torch.tensor(bounds).log().tolist()
    return _uniform(n, (low, high), generator).exp()

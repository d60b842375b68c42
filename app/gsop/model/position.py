"""The gate of the positions: which places of the feature map matter, from their covariance.

    x ─ ReLU, 1×1 conv, BN ─ pool to 8×8 ─ covariance ─ row-wise conv ─ 1×1 conv ─ sigmoid ─ resize
    (N,C,H,W)  (N,d,H,W)      (N,d,8,8)    (N,64,64)       (N,256)                (N,8,8)   (N,H,W)

Gao et al. (arXiv 1811.12006), section 3.2, as the authors' release computes it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gsop.model.gsop import Excitation, GateParts
from gsop.model.precision import at_least_float32

GRID = (8, 8)
"""Height and width that the feature map is pooled to, so that P = 64 positions remain."""


def position_covariance(x: Tensor) -> Tensor:
    """The release's covariance of the positions over the channels, in float32 at least.

    With X (d, P) and its column sums s: XᵀX/P - s·sᵀ/P². It divides by the number of positions
    P where a covariance over d channels would divide by d; the two agree where d = P.

    Args:
        x: features (N, d, height, width), height · width = P.

    Returns:
        (N, P, P), symmetric.
    """
    with torch.autocast(x.device.type, enabled=False):
        features = at_least_float32(x).flatten(2)  # (N, d, P)
        positions = features.shape[2]
        sums = features.sum(1, keepdim=True)  # (N, 1, P)
        # Divided at the end: a sum that is divided at once comes out of OpenVINO 2026.4 right for
        # the first image of a batch only.
        return features.mT @ features / positions - sums.mT @ sums / positions**2


class PositionGate(nn.Module):
    """The paper's gate of the positions: one number a position.

    Args:
        channels: C, of the tensor to gate.
        reduced_dim: d, channels that the positions are compared in.
    """

    def __init__(self, channels: int, reduced_dim: int = 128) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, reduced_dim, kernel_size=1)
        self.reduce_bn = nn.BatchNorm2d(reduced_dim)
        self.excite = Excitation(GRID[0] * GRID[1], GRID[0] * GRID[1], nn.ReLU())

    def parts(self, x: Tensor) -> GateParts:  # (N, C, H, W)
        """What the gate is made of; its logits are those of the 8×8 places, (N, 64)."""
        reduced = self.reduce_bn(self.reduce(F.relu(x)))  # (N, d, H, W)
        pooled = F.adaptive_avg_pool2d(reduced, GRID)  # (N, d, 8, 8)
        matrix = position_covariance(pooled)  # (N, 64, 64)
        return GateParts(pooled, matrix, self.excite.logits(matrix))

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        """The gate (N, H, W), in float32 at least."""
        grid = torch.sigmoid(self.parts(x).logits).view(-1, *GRID)  # (N, 8, 8)
        return F.adaptive_avg_pool2d(grid, (x.shape[2], x.shape[3]))  # (N, H, W), also to enlarge


def gate_positions(x: Tensor, gate: Tensor) -> Tensor:
    """``x`` (N, C, H, W) times ``gate`` (N, H, W), rectified, in the dtype of ``x``."""
    return F.relu(x * gate[:, None].to(x.dtype))

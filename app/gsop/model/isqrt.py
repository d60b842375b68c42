"""The square root of a covariance by matrix products alone: iSQRT-COV.

A covariance's eigenvalues span orders of magnitude; their square roots do not, and a classifier
learns better from them. Newton-Schulz iterations need no eigenvalues, which GPUs find slowly.
Li et al., Towards Faster Training of Global Covariance Pooling Networks by Iterative Matrix Square
Root Normalization, CVPR 2018 (arXiv 1712.01034).
"""

import torch
from torch import Tensor

ITERATIONS = 3
"""As in the authors' release: enough for learning, though far from the exact square root."""

MIN_TRACE = 1e-12
"""Below this trace a matrix counts as zero, for which neither 1/trace nor √trace's slope exists."""


def matrix_sqrt(matrix: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """The approximate square root of symmetric positive semi-definite matrices.

    The matrix is divided by its trace, so that the iterations converge, and the result multiplied
    by the root of it. A zero matrix gives zero, with a zero gradient.

    Args:
        matrix: (N, d, d); in float32 at least, for the iterations lose half the digits.
        iterations: Newton-Schulz steps, 2 or more.

    Returns:
        (N, d, d), symmetric.
    """
    with torch.autocast(matrix.device.type, enabled=False):
        identity = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
        # Not by diagonal(), which OpenVINO cannot translate.
        trace = (matrix * identity).sum((1, 2), keepdim=True).clamp(min=MIN_TRACE)  # (N, 1, 1)
        identity3 = 3 * identity
        a = matrix / trace
        z = (identity3 - a) / 2  # towards a^(-1/2)
        y = a @ z  # towards a^(1/2)
        for _ in range(iterations - 2):
            t = (identity3 - z @ y) / 2
            y, z = y @ t, t @ z
        y = y @ (identity3 - z @ y) / 2
        return y * trace.sqrt()

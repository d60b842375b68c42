"""Batch normalisation over the images of all processes, where torch has none: on the CPU.

torch's own ``SyncBatchNorm`` takes CUDA tensors only. What it computes there is computed here with
two sums over all processes, mean first, so that the variance is that of one process with all the
images but for rounding.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn import functional as collectives
from torch.nn.modules.batchnorm import _BatchNorm


class SyncBatchNorm(_BatchNorm):
    """``nn.BatchNorm1d`` or ``2d`` with the statistics of all processes' images, each as many.

    Args:
        original: whose parameters and buffers it takes over.
    """

    def __init__(self, original: _BatchNorm) -> None:
        super().__init__(
            original.num_features,
            original.eps,
            original.momentum,
            original.affine,
            original.track_running_stats,
        )
        self.weight, self.bias = original.weight, original.bias
        self.running_mean, self.running_var = original.running_mean, original.running_var
        self.num_batches_tracked = original.num_batches_tracked
        self.training = original.training

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() < 2:
            raise ValueError(f"expected (N, C, ...), not {x.dim()} dimensions")

    def forward(self, x: Tensor) -> Tensor:
        """Normalised ``x`` (N, C, ...), of the same shape in every process."""
        if not self.training:
            return super().forward(x)
        processes = dist.get_world_size()
        others = [d for d in range(x.dim()) if d != 1]
        broadcast = [1, -1] + [1] * (x.dim() - 2)
        mean = _summed(x.mean(dim=others)) / processes  # (C,)
        centred = x - mean.view(broadcast)
        variance = _summed(centred.square().mean(dim=others)) / processes  # (C,)
        self._remember(mean.detach(), variance.detach(), processes * x.numel() // x.shape[1])
        normal: Tensor = centred * torch.rsqrt(variance + self.eps).view(broadcast)
        if self.affine:
            normal = normal * self.weight.view(broadcast) + self.bias.view(broadcast)
        return normal

    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics; the variance among them is the unbiased one."""
        if self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        assert self.momentum is not None  # noqa: S101 - the network has no cumulative averages
        share = self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / max(1, count - 1)), share)


def synchronise(model: nn.Module, device: torch.device) -> None:
    """Let every batch normalisation inside of ``model`` take its statistics over all processes.

    The parameters and buffers stay the same tensors, under the same names.
    """
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                setattr(parent, name, _synchronised(child, device))


def _synchronised(norm: _BatchNorm, device: torch.device) -> nn.Module:
    if device.type != "cuda":
        return SyncBatchNorm(norm)
    native: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(norm)  # type: ignore[no-untyped-call]
    return native


def _summed(local: Tensor) -> Tensor:
    """Over all processes; its gradient is summed too."""
    total: Tensor = collectives.all_reduce(local)  # type: ignore[no-untyped-call]
    return total

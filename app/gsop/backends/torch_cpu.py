"""torch on the CPU: convolutions laid out once, as many threads as help."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from gsop.backends.packing import can_pack, pack_convolutions
from gsop.backends.torch_device import Staged, TorchBackend
from gsop.cpus import cpu_count
from gsop.model.resnet import GSoPResNet
from gsop.processes.memory import keep_freed_memory

LONG_SECONDS = 0.03
"""An image that takes so long gains little from being computed with others."""

TIMED_BATCH = 16
"""Images that are timed together where each takes less: a small one alone takes several times as
long, most of it for what is done once for a batch."""

FRONT_SECONDS = 0.0015
"""Processor time of an image outside of the engine: HTTP, and decoding a JPEG of 50 kB."""


class TorchCpu(TorchBackend):
    """One model on the CPU."""

    def _prepare(self, network: GSoPResNet, dtype: torch.dtype, threads: int) -> None:
        keep_freed_memory()
        self._threads = threads or fitting_threads(image_seconds(network, self._images[0]))
        torch.set_num_threads(self._threads)
        self._model = self._answering(network, dtype)
        if can_pack(dtype):
            pack_convolutions(self._model, self._images[0, :1].zero_())

    def _compute(self, staged: Sequence[Tensor], values: Tensor, turn: int) -> Staged:
        if torch.get_num_threads() != self._threads:  # another model's batch was the last
            torch.set_num_threads(self._threads)
        (images,) = staged
        values.copy_(self._model(images))
        return Staged(values)


def fitting_threads(seconds: float) -> int:
    """Threads of a forward beside fronts that bring the images.

    As many processors as the fronts leave while the engine is busy. More only wait for each other,
    by spinning.

    Args:
        seconds: that one image takes one thread.
    """
    return max(1, round(cpu_count() * seconds / (seconds + FRONT_SECONDS)))


def image_seconds(network: GSoPResNet, images: Tensor) -> float:
    """How long an image takes one thread, where many are computed together.

    Args:
        network: on the CPU.
        images: ``(N, H, W, 3)``, of the size that it will see.
    """
    height, width = images.shape[1:3]
    torch.set_num_threads(1)
    alone = _batch_seconds(network, torch.zeros(1, 3, height, width))
    if alone > LONG_SECONDS:
        return alone
    return _batch_seconds(network, torch.zeros(TIMED_BATCH, 3, height, width)) / TIMED_BATCH


def _batch_seconds(network: GSoPResNet, images: Tensor) -> float:
    """How long a batch takes: the second one, to be just."""
    with torch.inference_mode():
        for _ in range(2):
            began = time.perf_counter()
            network.eval()(images)
    return time.perf_counter() - began

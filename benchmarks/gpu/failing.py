"""A backend whose device fails once, on purpose, as a kernel with a fault makes it."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from gsop.backends.base import Pixels
from gsop.backends.torch_cuda import TorchCuda
from gsop.backends.torch_device import Staged

MARK = 77
"""Of each byte of the image at which it fails."""

FAILED = "BENCHMARK_FAILED"
"""A file's path, in the environment. It is there once it has failed."""


class FailsOnce(TorchCuda):
    """As it is mixed into a kind of :class:`TorchCuda`."""

    def submit(self, images: Sequence[Pixels]) -> Staged:
        """See :meth:`Backend.submit`."""
        failed = Path(os.environ[FAILED])
        if any((image == MARK).all() for image in images) and not failed.exists():
            failed.touch()
            with torch.cuda.device(self._device):
                torch._assert_async(torch.zeros(1, device=self._device))
        return super().submit(images)

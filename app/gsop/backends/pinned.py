"""The slots as memory that a CUDA device copies from by itself."""

import contextlib
import logging
import warnings
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from gsop.backends.base import Pixels

log = logging.getLogger("gsop.engine")

_registered: dict[int, Pixels] = {}
"""What this process has registered, by its address: several models read the same slots."""


class Pinned:
    """Memory of the host that is registered with the current CUDA device.

    An image that lies there is copied by the device while the host goes on, and by nobody before.

    Args:
        memory: contiguous, of uint8; for as long as the process lives.
    """

    def __init__(self, memory: Pixels) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is read only, and nothing here writes to it
            self._whole = torch.from_numpy(memory.reshape(-1))
        self._begin = self._whole.data_ptr()

    @classmethod
    def of(cls, memory: Pixels) -> Self | None:
        """That memory, registered; ``None``, with a line in the log, if CUDA refuses it."""
        made = cls(memory)
        if (known := _registered.get(made._begin)) is not None and known.nbytes == memory.nbytes:
            return made
        runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        error = int(runtime.cudaHostRegister(made._begin, memory.nbytes, 0))
        if error == 0:
            _registered[made._begin] = memory
            return made
        log.warning("the slots cannot be pinned (CUDA error %d): images are copied first", error)
        _forget_last_error()
        return None

    def find(self, images: Sequence[Pixels]) -> list[Tensor] | None:
        """The images or bundles, each with an axis more; ``None`` if one lies elsewhere."""
        found = []
        for image in images:
            at = _address(image) - self._begin
            if not (image.flags.c_contiguous and 0 <= at <= len(self._whole) - image.nbytes):
                return None
            found.append(self._whole[at : at + image.nbytes].view(1, *image.shape))
        return found


def _forget_last_error() -> None:
    """CUDA tells of a refusal once more, after the next kernel, which has nothing to do with it."""
    with contextlib.suppress(RuntimeError):
        torch.zeros(1, device="cuda").add_(1)


def _address(image: Pixels) -> int:
    return int(np.asarray(image).__array_interface__["data"][0])

"""Backends that fail in the ways that devices do; ``GSOP_BACKEND=tests.failing_backends:NAME``.

What they do to an image depends on its first pixel's red, so that a client chooses by what it
sends.
"""

import os
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from gsop.backends.base import OutOfMemory, Pixels
from gsop.backends.torch_cpu import TorchCpu
from gsop.backends.torch_device import Staged

ABORT, POISON, NAN, LARGE = 250, 251, 252, 253
"""First red value of images that end the process, spoil the device, are answered with NaN, and fit
into no batch. Ordinary images of the tests begin with less."""

FITS = 3
"""Images that the device of :class:`Cramped` has room for at once."""

SLOW_SECONDS = 0.02
"""How long a batch of :class:`Slow` takes."""

Images = Sequence[Pixels]


def _marks(images: Images) -> list[int]:
    return [int(image[0, 0, 0]) for image in images]


class Failing(TorchCpu):
    """Fails on marked images."""

    def submit(self, images: Images) -> Staged:
        """As its parent, if no image is marked."""
        marks = _marks(images)
        if ABORT in marks:
            os.abort()
        if POISON in marks:
            _poisoned()
        pending = super().submit(images)
        for row, mark in enumerate(marks):
            if mark == NAN:
                pending.values[row, 1] = float("nan")
        return pending


class Regressed(TorchCpu):
    """Answers marked images with NaN, but only as version 2."""

    def submit(self, images: Images) -> Staged:
        """As its parent, but for those."""
        pending = super().submit(images)
        for row, mark in enumerate(_marks(images)):
            if mark == NAN and self.manifest.version == "2":
                pending.values[row, 1] = float("nan")
        return pending


def _poisoned() -> NoReturn:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


class Cramped(TorchCpu):
    """Has room for few images at once, and for a large one never."""

    def submit(self, images: Images) -> Staged:
        """As its parent, if they fit."""
        if len(images) > FITS or LARGE in _marks(images):
            raise OutOfMemory("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().submit(images)

    def warm_up(self) -> None:
        """With one image: so that the first large batch meets the limit while serving."""
        spec = self.manifest.input
        self.result(self.submit([np.zeros((spec.height, spec.width, 3), np.uint8)]))

    def shrink(self, most: int) -> None:
        """As its parent; nothing of the batch may be alive."""
        assert sys.exc_info()[1] is None, "its traceback would hold the batch's memory"
        super().shrink(most)


class CrampedFromTheStart(Cramped):
    """The same, and warms up as usual."""

    def warm_up(self) -> None:
        """Every size of batch."""
        TorchCpu.warm_up(self)


class Spoilt(TorchCpu):
    """Fails when it is warmed up, as a device in exclusive use does."""

    def warm_up(self) -> None:
        """Never."""
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable")


class Slow(TorchCpu):
    """Takes its time, whatever the batch: a capacity that does not depend on the machine."""

    def submit(self, images: Images) -> Staged:
        """As its parent, later."""
        end = time.monotonic() + SLOW_SECONDS
        pending = super().submit(images)
        time.sleep(max(0.0, end - time.monotonic()))
        return pending

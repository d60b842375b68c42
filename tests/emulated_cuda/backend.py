"""``GSOP_BACKEND=tests.emulated_cuda.backend:EmulatedCuda``: the CUDA backend, without a GPU.

As in a process of its own it sees the GPUs that ``CUDA_VISIBLE_DEVICES`` names, of a machine that
has two.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from benchmarks.gpu.failing import FailsOnce
from gsop.backends.base import Pixels, Place, Values
from gsop.backends.bundles import fit_bundles_twin
from gsop.backends.kernels import gated_sum_twin
from gsop.backends.torch_cuda import TorchCuda
from gsop.backends.torch_device import Staged
from gsop.store.manifest import Manifest
from tests.emulated_cuda import Machine, emulated

SEED = 1
"""Of the moments at which the device gets on by itself."""


class EmulatedCuda(TorchCuda):
    """Each call enters the emulation, and leaves it."""

    machine: Machine

    @classmethod
    def open(cls, folder: Path, manifest: Manifest, place: Place) -> "EmulatedCuda":
        """See :meth:`gsop.backends.base.Backend.open`."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0,1")
        machine = Machine(names=[f"Emulated GPU {name}" for name in visible.split(",")], seed=SEED)
        with emulated(machine):
            made = cast("EmulatedCuda", super().open(folder, manifest, place))
        made.machine = machine
        return made

    _gated_sum = staticmethod(gated_sum_twin)
    _fit_bundles = staticmethod(fit_bundles_twin)

    def submit(self, images: Sequence[Pixels]) -> Staged:
        """See :meth:`gsop.backends.base.Backend.submit`."""
        with emulated(self.machine):
            return super().submit(images)

    def result(self, pending: Staged) -> Values:
        """See :meth:`gsop.backends.base.Backend.result`."""
        with emulated(self.machine):
            return super().result(pending)

    def warm_up(self) -> None:
        """See :meth:`gsop.backends.base.Backend.warm_up`."""
        with emulated(self.machine):
            super().warm_up()

    def shrink(self, most: int) -> None:
        """See :meth:`gsop.backends.base.Backend.shrink`."""
        with emulated(self.machine):
            super().shrink(most)

    def expect_bundles(self) -> None:
        """See :meth:`gsop.backends.base.Backend.expect_bundles`."""
        with emulated(self.machine):
            super().expect_bundles()

    def reach(self, memory: Pixels) -> None:
        """See :meth:`gsop.backends.base.Backend.reach`."""
        with emulated(self.machine):
            super().reach(memory)


class EmulatedFailing(FailsOnce, EmulatedCuda):
    """Its device fails once."""

    def submit(self, images: Sequence[Pixels]) -> Staged:
        """See :meth:`gsop.backends.base.Backend.submit`."""
        with emulated(self.machine):
            return super().submit(images)

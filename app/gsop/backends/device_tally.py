"""Statistics of the gates, summed up on a CUDA device.

For a thousand classes the sums are 123 MB. On the host each answer reads and writes a row of them,
45 µs of the engine's one thread; the device has done with a block of answers sooner than that.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from gsop.gates.statistics import GateStatistics
from gsop.gates.tally import Keys

MOST = 64
"""Answers that are sent to the device at once."""


class DeviceTally:
    """A :class:`gsop.gates.tally.ClassTally` on a CUDA device, on a stream of its own.

    Args:
        classes: that there are.
        size: numbers in all gates of one answer, G.
        device: where.
    """

    def __init__(self, classes: int, size: int, device: torch.device) -> None:
        self._device = device
        self._samples = np.zeros(classes, np.int64)
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._gates = torch.empty(MOST, size).pin_memory()
        self._classes = torch.empty(MOST, dtype=torch.int64).pin_memory()
        with torch.cuda.device(device), torch.cuda.stream(self._stream):
            # As GateStatistics has them: sums, sums of squares, least, greatest.
            self._sums = torch.zeros(4, classes, size, dtype=torch.float64, device=device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch tells at a first time that it may change
            # Once before it counts: the memory that a block takes is there from now on.
            self._send(np.zeros((MOST, size), np.float32), np.zeros(MOST, np.int64))
        self._forget()

    def _forget(self) -> None:
        """Nothing is counted."""
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            self._sums.zero_()
            self._sums[2], self._sums[3] = torch.inf, -torch.inf

    @torch.inference_mode()
    def add(self, gates: npt.NDArray[np.float32], classes: Keys) -> None:
        """See :meth:`ClassTally.add`."""
        for start in range(0, len(gates), MOST):
            self._send(gates[start : start + MOST], classes[start : start + MOST])
        self._samples += np.bincount(classes, minlength=len(self._samples))

    def _send(self, gates: npt.NDArray[np.float32], classes: Keys) -> None:
        self._stream.synchronize()  # the block before has long been taken
        staged, keys = self._gates[: len(gates)], self._classes[: len(gates)]
        staged.numpy()[:], keys.numpy()[:] = gates, classes
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            values = staged.to(self._device, non_blocking=True).double()
            at = keys.to(self._device, non_blocking=True)
            self._sums[0].index_add_(0, at, values)
            self._sums[1].index_add_(0, at, values.square())
            self._sums[2].index_reduce_(0, at, values, "amin")
            self._sums[3].index_reduce_(0, at, values, "amax")

    @torch.inference_mode()
    def of(self, class_id: int) -> GateStatistics | None:
        """See :meth:`ClassTally.of`; it waits for the device."""
        if not 0 <= class_id < len(self._samples) or not self._samples[class_id]:
            return None
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            sums = self._sums[:, class_id].cpu()
        return GateStatistics(int(self._samples[class_id]), sums.numpy())

    @torch.inference_mode()
    def total(self) -> GateStatistics:
        """See :meth:`ClassTally.total`; it waits for the device."""
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            added, least = self._sums[:2].sum(1), self._sums[2].amin(0)
            sums = torch.cat([added, least[None], self._sums[3].amax(0)[None]]).cpu()
        return GateStatistics(int(self._samples.sum()), sums.numpy())

    def classes(self) -> Sequence[int]:
        """See :meth:`ClassTally.classes`."""
        met: list[int] = self._samples.nonzero()[0].tolist()
        return met

    @torch.inference_mode()
    def merge(self, class_id: int, statistics: GateStatistics) -> None:
        """See :meth:`ClassTally.merge`; it waits for the device."""
        own = self.of(class_id) or GateStatistics.empty(self._sums.shape[2])
        own.merge(statistics)
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            self._sums[:, class_id].copy_(torch.from_numpy(own.sums))
        self._samples[class_id] = own.samples

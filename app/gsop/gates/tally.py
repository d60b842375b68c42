"""Statistics of the gates by class, wherever the sums are kept."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gsop.gates.statistics import GateStatistics

Keys = npt.NDArray[np.integer]


class ClassTally(Protocol):
    """What is summed up by class. Each answer has one class, so the classes make up the total."""

    def add(self, gates: npt.NDArray[np.float32], classes: Keys) -> None:
        """Count the gates ``(N, G)`` of N answers, of the classes ``(N,)``; they are not kept."""

    def of(self, class_id: int) -> GateStatistics | None:
        """The statistics of a class; ``None`` if it was never met."""

    def total(self) -> GateStatistics:
        """The statistics of all classes together."""

    def classes(self) -> Sequence[int]:
        """Those that were met, ascending."""

    def merge(self, class_id: int, statistics: GateStatistics) -> None:
        """Count what another tally counted of a class."""


class Groups(dict[int, GateStatistics]):
    """Statistics by a key, in the host's memory: one pass over the gates for each key.

    Args:
        size: numbers in all gates of one answer.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def __missing__(self, key: int) -> GateStatistics:
        self[key] = GateStatistics.empty(self._size)
        return self[key]

    def count(self, gates: npt.NDArray[np.float32], keys: Keys) -> None:
        """Count the gates ``(N, G)`` of N answers, with the keys ``(N,)``."""
        for key in np.unique(keys).tolist():
            self[key].add(gates[keys == key])


class HostTally:
    """A :class:`ClassTally` in the host's memory."""

    def __init__(self, size: int) -> None:
        self._total = GateStatistics.empty(size)
        self._by_class = Groups(size)

    def add(self, gates: npt.NDArray[np.float32], classes: Keys) -> None:
        """See :meth:`ClassTally.add`."""
        self._total.add(gates)
        self._by_class.count(gates, classes)

    def of(self, class_id: int) -> GateStatistics | None:
        """See :meth:`ClassTally.of`."""
        return self._by_class.get(class_id)

    def total(self) -> GateStatistics:
        """See :meth:`ClassTally.total`."""
        return self._total

    def classes(self) -> Sequence[int]:
        """See :meth:`ClassTally.classes`."""
        return sorted(self._by_class)

    def merge(self, class_id: int, statistics: GateStatistics) -> None:
        """See :meth:`ClassTally.merge`."""
        self._total.merge(statistics)
        self._by_class[class_id].merge(statistics)

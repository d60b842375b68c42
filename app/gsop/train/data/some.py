"""Some of many samples, each read when it is asked for."""

from collections.abc import Sequence
from typing import overload

from gsop.train.data.dataset import Sample


class Some(Sequence[Sample]):
    """Those of ``samples`` that lie at ``places``, in that order."""

    def __init__(self, samples: Sequence[Sample], places: Sequence[int]) -> None:
        self._samples = samples
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self._samples[place] for place in self._places[index]]
        return self._samples[self._places[index]]

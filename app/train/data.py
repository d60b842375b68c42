"""What the training loop and the evaluation ask of their data."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from torch import Generator, Tensor


class Sample(NamedTuple):
    """One labelled image.

    Attributes:
        image: encoded as a client would send it.
        label: its class.
    """

    image: bytes
    label: int


class DataSet(Protocol):
    """Labelled images, of which some are held out: training never sees them.

    Attributes:
        labels: one text a class, in the order of the logits.
        source: where the data come from, under which terms, for the manifest.
        how: how the held-out images were chosen, for the manifest.
    """

    labels: tuple[str, ...]
    source: Mapping[str, str]
    how: str

    def batches(self, batch_size: int, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Training batches without end, shuffled and augmented.

        Args:
            batch_size: N.
            generator: the source of all randomness; its device is where the batches are made.

        Yields:
            Pixels (N, H, W, 3) uint8, as the decoder delivers them, and classes (N,) int64.
        """
        ...

    def held_out(self) -> Sequence[Sample]:
        """The images that training never sees, as they are."""
        ...

    def variants(self) -> Mapping[str, Sequence[Sample]]:
        """By name: images to test robustness on, none of which training has seen in any form."""
        ...

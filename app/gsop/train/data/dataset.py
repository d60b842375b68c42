"""What the training loop and the evaluation ask of their data."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gsop.images import Pixels

Classes = NDArray[np.int64]
"""The class of each of some images, (N,)."""


class Sample(NamedTuple):
    """One labelled image.

    Attributes:
        image: encoded as a client would send it.
        label: its class.
        name: what to call it, if it cannot be read; a path, for instance.
    """

    image: bytes
    label: int
    name: str = ""


class BrokenImage(Exception):
    """A training image that cannot be read.

    Attributes:
        name: its path, or what else it is called.
        reason: what is wrong with it.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)  # both, so that it can be pickled
        self.name = name
        self.reason = reason


class DataSet(Protocol):
    """Labelled images, of which some are held out: training never sees them.

    Sent to the processes that load the images, so pickling one is to be cheap.

    Attributes:
        labels: one text a class, in the order of the logits.
        source: where the data come from, under which terms, for the manifest.
        how: how the held-out images were chosen, for the manifest.
    """

    labels: tuple[str, ...]
    source: Mapping[str, str]
    how: str

    @property
    def fingerprint(self) -> str:
        """Another one means other images; lower-case hexadecimal."""
        ...

    def __len__(self) -> int:
        """Images to train on."""
        ...

    def training_labels(self) -> Classes:
        """The class of each image to train on, (N,), without reading the images."""
        ...

    def training_image(self, index: int, seed: int) -> tuple[Pixels, int]:
        """One image to train on, decoded, cut, scaled and varied, and its class.

        Args:
            index: from 0 to ``len() - 1``.
            seed: the source of all randomness, 0 to 2**63 - 1.

        Returns:
            Pixels of the network's input, (height, width, 3) uint8, and the class.

        Raises:
            BrokenImage: if the image cannot be read.
        """
        ...

    def held_out(self) -> Sequence[Sample]:
        """The images that training never sees, as they are; read when they are asked for."""
        ...

    def variants(self) -> Mapping[str, Sequence[Sample]]:
        """By name: images to test robustness on, none of which training has seen in any form.

        A kind with as many images as are held out is made of those, in their order.
        """
        ...

"""A backend that answers at once: what remains is the price of the way to the device and back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from gsop.backends.base import Backend, Pixels, Place, Values
from gsop.store.manifest import Manifest


class NullBackend(Backend[int]):
    """Answers every image alike, without looking at it, and needs no weights."""

    @classmethod
    def open(cls, folder: Path, manifest: Manifest, place: Place) -> Self:
        """Make the one answer."""
        return cls(manifest, device="none", precision="none", max_batch=place.max_batch or 16)

    def submit(self, images: Sequence[Pixels]) -> int:
        """Count them."""
        return len(images)

    def result(self, pending: int) -> Values:
        """The same answer for each: classes that are likelier the later they come, open gates."""
        layout = self.manifest.answer
        probabilities = np.linspace(0, 2 / layout.classes, layout.classes, dtype=np.float32)
        gates = np.full(layout.gate_size, 0.5, np.float32)
        return np.tile(layout.assemble(probabilities, [gates], np.concatenate), (pending, 1))

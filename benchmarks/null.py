"""A predictor that returns at once: what remains is the price of the way to the device and back."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from gsop.backends.base import Pending, Predictor
from gsop.model.resnet import GSoPResNet
from gsop.store.manifest import Manifest


class NullPredictor(Predictor):
    """Answers every image alike, without looking at it. ``GSOP_BACKEND=benchmarks.null:...``."""

    def __init__(
        self,
        manifest: Manifest,
        model: GSoPResNet,
        *,
        device: torch.device,
        dtype: torch.dtype,
        max_batch: int,
        cache: Path | None = None,
    ) -> None:
        self.manifest, self.device, self.max_batch, self.depth = manifest, device, max_batch, 1
        classes = manifest.config.num_classes
        self._values = torch.full((max_batch, classes + manifest.gate_size), 0.5)
        self._values[:, :classes] = torch.linspace(0, 2 / classes, classes)

    def submit(self, images: Sequence[npt.NDArray[np.uint8]]) -> Pending:
        """The same answer for each of the images."""
        return Pending(self._values[: len(images)], None)

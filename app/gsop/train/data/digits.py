"""Handwritten digits: the data of the default model.

1797 scans of 8×8 grey levels, 0 (ground) to 16 (full ink), bundled with scikit-learn: the test
part of Alpaydin and Kaynak's Optical Recognition of Handwritten Digits (UCI, 1998).
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator

from gsop.errors import ConfigError
from gsop.images import Pixels
from gsop.train.data.dataset import Classes, Sample
from gsop.train.data.drawing import DrawingSpec, draw
from gsop.train.data.variants import drawn_digits, encode_png, redrawn_scans

FULL_INK = 16
"""The grey level of full ink in a scan."""

HELD_OUT_EVERY = 5
"""Of each class, in the order of the set, the first of every so many scans is held out."""


class Digits:
    """The scans, split, as a :class:`gsop.train.data.dataset.DataSet`.

    The fingerprint is the SHA-256 of all scans and their classes.

    Args:
        size: height and width of the training images.
        how: how far the training images stray from the scans.

    Raises:
        ConfigError: if scikit-learn is not installed.
    """

    labels: tuple[str, ...] = tuple("0123456789")
    source: Mapping[str, str] = {
        "dataset": "Optical Recognition of Handwritten Digits, test part (1797 scans, 8x8)",
        "authors": "E. Alpaydin, C. Kaynak (1998)",
        "url": "https://archive.ics.uci.edu/dataset/80",
        "doi": "10.24432/C50P49",
        "licence": "CC BY 4.0",
        "obtained": "sklearn.datasets.load_digits",
    }
    how: str = (
        "of each class, in the order of the data set, every fifth scan (the first, the sixth, ...) "
        "is held out; training never sees them, nor did the choice of the recipe. The writers of "
        "both parts are the same people"
    )

    def __init__(self, size: int, how: DrawingSpec) -> None:
        scans, classes = _load()
        held_out = _held_out(classes)
        self._size = size
        self._drawing = how
        self._train = scans[~held_out], classes[~held_out]
        self._test = scans[held_out], classes[held_out]
        self.fingerprint = hashlib.sha256(scans.tobytes() + classes.tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self._train[0])

    def training_labels(self) -> Classes:
        """The class of each scan to train on, (N,)."""
        return self._train[1]

    def training_image(self, index: int, seed: int) -> tuple[Pixels, int]:
        """See :meth:`gsop.train.data.dataset.DataSet.training_image`."""
        scan = torch.from_numpy(self._train[0][index]).to(torch.float32)[None, None] / FULL_INK
        generator = Generator().manual_seed(seed)
        pixels = draw(scan, self._size, self._drawing, generator)[0]
        return pixels.contiguous().numpy(), int(self._train[1][index])

    def held_out(self) -> Sequence[Sample]:
        """The held-out scans, each an 8×8 grey PNG with light ink on a dark ground."""
        scans, classes = self._test
        return [
            Sample(encode_png(as_image(scan)), int(label))
            for scan, label in zip(scans, classes, strict=True)
        ]

    def variants(self) -> Mapping[str, Sequence[Sample]]:
        """The held-out scans redrawn, and digits drawn with strokes and type."""
        scans, classes = self._test
        return redrawn_scans([as_image(scan) for scan in scans], classes.tolist()) | drawn_digits()


def as_image(scan: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A scan as 8-bit grey, (8, 8)."""
    return np.asarray(np.rint(scan * (255 / FULL_INK)), dtype=np.uint8)


def _load() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ConfigError(
            "the digits come with scikit-learn, which is not installed: pip install '.[train]'"
        ) from error
    scans, classes = load_digits(return_X_y=True)
    return scans.reshape(-1, 8, 8).astype(np.int64), classes.astype(np.int64)


def _held_out(classes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which scans are held out, (N,)."""
    mask = np.zeros(len(classes), dtype=np.bool_)
    for label in np.unique(classes):
        mask[np.flatnonzero(classes == label)[::HELD_OUT_EVERY]] = True
    return mask

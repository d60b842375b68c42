"""CIFAR-100 from a local copy, as torchvision reads it."""

import hashlib
import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from gsop.errors import ConfigError
from gsop.images import InputSpec, Pixels
from gsop.train.data.augment import augment
from gsop.train.data.dataset import Classes, Sample
from gsop.train.data.spec import AugmentSpec, DataSpec


class Cifar100:
    """50 000 training and 10 000 test images, a :class:`gsop.train.data.dataset.DataSet`.

    The fingerprint is the SHA-256 of all pixels and classes.

    Args:
        spec: ``path`` is the folder that holds ``cifar-100-python/``.
        input: the network's input.
        how: how training images are varied.

    Raises:
        ConfigError: if they are not there whole, or torchvision is not installed.
    """

    source: Mapping[str, str] = {
        "dataset": "CIFAR-100",
        "authors": "A. Krizhevsky (2009)",
        "url": "https://www.cs.toronto.edu/~kriz/cifar.html",
        "obtained": "torchvision.datasets.CIFAR100",
    }
    how: str = "the data set's own test images; training never sees them"

    def __init__(self, spec: DataSpec, input: InputSpec, how: AugmentSpec) -> None:
        try:
            from torchvision.datasets import CIFAR100
        except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
            raise ConfigError(
                "CIFAR-100 is read by torchvision, which cannot be imported: install the extra "
                "`torchvision`"
            ) from error
        if spec.path is None:
            raise ConfigError("say with --data DIR which folder holds cifar-100-python/")
        try:
            train, test = (CIFAR100(spec.path, train=part) for part in (True, False))
        except (RuntimeError, OSError) as error:
            raise ConfigError(
                f"{spec.path} holds no whole cifar-100-python/: fetch cifar-100-python.tar.gz "
                "from https://www.cs.toronto.edu/~kriz/cifar.html and unpack it there"
            ) from error
        self.labels: tuple[str, ...] = tuple(train.classes)
        self._input = input
        self._augment = how
        self._train = np.asarray(train.data, np.uint8), np.asarray(train.targets, np.int64)
        self._test = np.asarray(test.data, np.uint8), np.asarray(test.targets, np.int64)
        digest = hashlib.sha256()
        for array in (*self._train, *self._test):
            digest.update(array.tobytes())
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._train[0])

    def training_labels(self) -> Classes:
        """The class of each image to train on, (N,)."""
        return self._train[1]

    def training_image(self, index: int, seed: int) -> tuple[Pixels, int]:
        """See :meth:`gsop.train.data.dataset.DataSet.training_image`."""
        pixels = augment(self._train[0][index], self._input, self._augment, seed)
        return pixels, int(self._train[1][index])

    def held_out(self) -> Sequence[Sample]:
        """The test images, as PNG."""
        return [
            Sample(_png(pixels), int(label), f"test/{index}")
            for index, (pixels, label) in enumerate(zip(*self._test, strict=True))
        ]

    def variants(self) -> Mapping[str, Sequence[Sample]]:
        """None."""
        return {}


def _png(pixels: Pixels) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()

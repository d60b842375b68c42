"""Coloured noise whose classes differ in second-order statistics and in nothing else.

A texture is a sum of Gaussian noises, one a band of frequencies: three scales in four directions.
In each band the three colours are correlated in pairs, by +½ or -½; the signs are the class. All
that first-order pooling could see is the same in every class: the mean and the variance of each
colour, in every single image; its spectrum; the shape of its histogram. So is the correlation of
the colours over the whole image, which is none: in half of the bands, drawn for each pair of
colours and class, the sign is +, in the other half -. What is left is the correlation of two
colours *within* a band, a mean of products; a network has to form the bands and then the products.

Every image is drawn from a seed and its number, so nothing is stored.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import NDArray

from gsop.images import Pixels
from gsop.train.data.dataset import Classes, Sample
from gsop.train.data.variants import encode_png

CLASSES = 16
"""Few of the 8·10⁸ that the bands and the pairs of colours allow."""

TRAINING_IMAGES = 4000
HELD_OUT_IMAGES = 1600

SCALES = ((0.05, 0.14), (0.14, 0.26), (0.26, 0.42))
"""Frequencies of the bands, from and to, in periods a pixel; 0.5 is the highest there is."""

DIRECTIONS = 4
"""Bands of each scale: across, along, and the two diagonals."""

CORRELATION = 0.5
"""The largest for which every choice of three signs is a correlation matrix: with three times -,
its smallest eigenvalue is 1 - 2·½ = 0."""

NOISE = 1.0
"""Deviation of the white noise on top, in deviations of the texture: the same in every class."""

MEAN, DEVIATION = 128.0, 40.0
"""Of each colour of each image, in pixel values, before they are rounded and the one in 700 that
is beyond 0 or 255 is cut."""

_PAIRS = ((0, 1), (0, 2), (1, 2))

Floats = NDArray[np.float32]


class Textures:
    """The textures, as a :class:`gsop.train.data.dataset.DataSet`.

    Args:
        height: of every image.
        width: of every image.
        seed: of the classes and of every image.
    """

    source: Mapping[str, str] = {
        "dataset": "Textures: coloured noise, classes of equal first-order statistics",
        "obtained": "drawn by gsop.train.data.textures",
        "licence": "none needed: nobody's work but a generator's",
    }
    how: str = "drawn from other seeds than the training images"

    def __init__(self, height: int, width: int, seed: int = 0) -> None:
        self.labels = tuple(f"texture-{label:02}" for label in range(CLASSES))
        self._size = (height, width)
        self._seed = seed
        self._signs = class_signs(seed)

    def __len__(self) -> int:
        """Training images."""
        return TRAINING_IMAGES

    def training_labels(self) -> Classes:
        """The class of each texture to train on, (N,)."""
        return np.arange(TRAINING_IMAGES, dtype=np.int64) % CLASSES

    def training_image(self, index: int, seed: int) -> tuple[Pixels, int]:
        """Training image ``index`` and its class; it is never augmented: its frequencies are it."""
        return self._image(index)

    def held_out(self) -> Sequence[Sample]:
        """Images of other numbers than the training images, as PNG."""
        return _HeldOut(self)

    def variants(self) -> Mapping[str, Sequence[Sample]]:
        """None."""
        return {}

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that the images are computed from."""
        facts = [*self._size, self._seed, TRAINING_IMAGES, HELD_OUT_IMAGES, SCALES, DIRECTIONS]
        facts += [CORRELATION, NOISE, MEAN, DEVIATION, self._signs.tolist()]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @cached_property
    def mixers(self) -> Floats:
        """By class, what makes textures of white noise; see :func:`mixers`."""
        return mixers(self._signs, *self._size)

    def _image(self, number: int) -> tuple[Pixels, int]:
        label = number % CLASSES
        rng = np.random.default_rng((self._seed, number))
        return texture(self.mixers[label], *self._size, rng), label


class _HeldOut(Sequence[Sample]):
    """The held-out textures, each drawn when it is asked for."""

    def __init__(self, textures: Textures) -> None:
        self._textures = textures

    def __len__(self) -> int:
        return HELD_OUT_IMAGES

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[at] for at in range(HELD_OUT_IMAGES)[index]]
        number = TRAINING_IMAGES + range(HELD_OUT_IMAGES)[index]
        pixels, label = self._textures._image(number)
        return Sample(encode_png(pixels), label)


def class_signs(seed: int) -> NDArray[np.int64]:
    """The signs of each class: (CLASSES, bands, pairs of colours), no two classes alike.

    Over the bands of each class and pair they sum to 0.
    """
    rng = np.random.default_rng((seed, 1 << 32))  # no image has this number
    half = len(SCALES) * DIRECTIONS // 2
    found: dict[bytes, NDArray[np.int64]] = {}
    while len(found) < CLASSES:
        signs = np.stack([rng.permutation([1] * half + [-1] * half) for _ in _PAIRS], axis=1)
        found.setdefault(signs.tobytes(), signs)
    return np.stack(list(found.values()))


def bands(height: int, width: int) -> NDArray[np.bool_]:
    """Which frequencies of a real Fourier transform each band has, (bands, height, width//2 + 1).

    They share none.
    """
    down, across = np.meshgrid(np.fft.fftfreq(height), np.fft.rfftfreq(width), indexing="ij")
    frequency = np.hypot(down, across)
    direction = np.arctan2(down, across) % np.pi  # of the waves: 0 is across the image
    sector = np.rint(direction / (np.pi / DIRECTIONS)).astype(int) % DIRECTIONS
    return np.stack(
        [
            (low <= frequency) & (frequency < high) & (sector == turn)
            for low, high in SCALES
            for turn in range(DIRECTIONS)
        ]
    )


def mixers(signs: NDArray[np.int64], height: int, width: int) -> Floats:
    """What makes textures of white noise: the root of their cross-spectra, at each frequency.

    Args:
        signs: (classes, bands, pairs).
        height: of the images.
        width: of the images.

    Returns:
        (classes, 3, 3, height, width//2 + 1). All bands have the same power, 1 together.
    """
    masks = bands(height, width)
    # A real transform holds one of each pair of conjugate frequencies, except in two columns.
    twice = np.full(width // 2 + 1, 2.0)
    twice[0] = 1.0
    if width % 2 == 0:
        twice[-1] = 1.0
    share = (masks * twice).sum((1, 2)) / (height * width)  # of the power of white noise
    power = 1 / (share * len(masks))
    correlations = np.broadcast_to(np.eye(3), (*signs.shape[:2], 3, 3)).copy()
    for pair, (one, other) in enumerate(_PAIRS):
        correlations[:, :, one, other] = CORRELATION * signs[:, :, pair]
        correlations[:, :, other, one] = CORRELATION * signs[:, :, pair]
    values, vectors = np.linalg.eigh(correlations)
    gains = np.sqrt(power[:, None] * values.clip(min=0) + NOISE**2)
    roots = (vectors * gains[:, :, None, :]) @ vectors.swapaxes(2, 3)  # (classes, bands, 3, 3)
    within = np.einsum("kbij,bhw->kijhw", roots, masks)
    without = np.einsum("ij,hw->ijhw", NOISE * np.eye(3), ~masks.any(0))
    mixed: Floats = (within + without).astype(np.float32)
    return mixed


def texture(mixer: Floats, height: int, width: int, rng: np.random.Generator) -> Pixels:
    """One texture, (height, width, 3), of the class that ``mixer`` belongs to.

    Args:
        mixer: (3, 3, height, width//2 + 1).
        height: of the image.
        width: of the image.
        rng: the source of all randomness.
    """
    white = np.fft.rfft2(rng.standard_normal((3, height, width), dtype=np.float32))
    coloured = np.fft.irfft2((mixer * white).sum(1), s=(height, width))
    coloured -= coloured.mean((1, 2), keepdims=True)
    coloured /= coloured.std((1, 2), keepdims=True)
    pixels = np.rint(MEAN + DEVIATION * coloured).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))

"""What the classes differ in, and that it is nothing else."""

import pickle

import numpy as np
import pytest
from numpy.typing import NDArray

from gsop.errors import ConfigError
from gsop.images import InputSpec, decode
from gsop.train.data.open import open_data
from gsop.train.data.spec import AugmentSpec, DataSpec
from gsop.train.data.textures import (
    CLASSES,
    CORRELATION,
    HELD_OUT_IMAGES,
    NOISE,
    Textures,
    bands,
    class_signs,
    mixers,
)

SIZE = 64
INPUT = InputSpec(height=SIZE, width=SIZE, resize=SIZE, mean=(0.5,) * 3, std=(0.5,) * 3)
PAIRS = ((0, 1), (0, 2), (1, 2))

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def textures() -> Textures:
    return Textures(SIZE, SIZE, seed=3)


def images(textures: Textures, first: int, count: int) -> tuple[Floats, NDArray[np.int64]]:
    found = [textures.training_image(index, seed=0) for index in range(first, first + count)]
    return np.stack([pixels for pixels, _ in found]).astype(float), np.array([k for _, k in found])


def band_correlations(pixels: Floats) -> Floats:
    """Of each image (N, H, W, 3), the correlation of each pair of colours in each band: (N, 36)."""
    spectra = np.fft.rfft2(pixels - pixels.mean((1, 2), keepdims=True), axes=(1, 2))
    found = []
    for band in bands(SIZE, SIZE):
        part = spectra[:, band]  # (N, frequencies, 3)
        products = np.einsum("nfi,nfj->nij", part, part.conj()).real
        scale = np.sqrt(np.einsum("nii->ni", products))
        found += [products[:, i, j] / (scale[:, i] * scale[:, j]) for i, j in PAIRS]
    return np.stack(found, axis=1)


def accuracy_of_nearest_mean(
    seen: Floats, labels: NDArray[np.int64], asked: Floats, truth: NDArray[np.int64]
) -> float:
    spread = seen.std(0) + 1e-9
    means = np.stack([seen[labels == label].mean(0) for label in range(CLASSES)])
    distances = (((asked[:, None] - means) / spread) ** 2).sum(2)
    return float((distances.argmin(1) == truth).mean())


def test_every_class_has_the_same_spectra_and_no_correlation_of_whole_colours() -> None:
    mixed = mixers(class_signs(0), SIZE, SIZE)
    products = np.einsum("kijhw,kljhw->kilhw", mixed, mixed)  # cross-spectra of the colours
    for colour in range(3):
        power = products[:, colour, colour]
        np.testing.assert_allclose(
            power, np.broadcast_to(products[0, 0, 0], power.shape), rtol=1e-5
        )
    twice = np.full(SIZE // 2 + 1, 2.0)
    twice[[0, -1]] = 1.0
    whole = (products * twice).sum((3, 4)) / SIZE**2  # covariance of the pixels
    wanted = (1 + NOISE**2) * np.eye(3)
    np.testing.assert_allclose(whole, np.broadcast_to(wanted, whole.shape), atol=1e-4)


def test_bands_are_apart_and_of_equal_power() -> None:
    masks = bands(SIZE, SIZE)
    assert masks.sum(0).max() == 1
    mixed = mixers(class_signs(0), SIZE, SIZE)[0].astype(float)
    twice = np.full(SIZE // 2 + 1, 2.0)
    twice[[0, -1]] = 1.0
    power = ((mixed**2).sum(1)[0] - NOISE**2) * twice
    of_bands = [(power * mask).sum() / SIZE**2 for mask in masks]
    np.testing.assert_allclose(of_bands, 1 / len(masks), rtol=1e-4)


def test_classes_are_all_different_and_balanced() -> None:
    signs = class_signs(0)
    assert len(np.unique(signs.reshape(CLASSES, -1), axis=0)) == CLASSES
    assert not signs.sum(1).any()
    assert not np.array_equal(signs, class_signs(1))


def test_the_correlations_within_the_bands_are_the_class(textures: Textures) -> None:
    pixels, labels = images(textures, 0, 40 * CLASSES)
    found = band_correlations(pixels)
    signs = class_signs(3).reshape(CLASSES, -1)
    for label in range(CLASSES):
        mean = found[labels == label].mean(0)
        assert np.array_equal(np.sign(mean), signs[label])
        assert (abs(mean) < CORRELATION).all()  # the noise has none


def test_second_order_tells_the_classes_and_first_order_does_not(textures: Textures) -> None:
    pixels, labels = images(textures, 0, 80 * CLASSES)
    asked, truth = images(textures, 80 * CLASSES, 40 * CLASSES)

    def first_order(pixels: Floats) -> Floats:
        """Mean, deviation and the quantiles of each colour, of each image."""
        flat = pixels.reshape(len(pixels), -1, 3)
        quantiles = np.quantile(flat, np.linspace(0.05, 0.95, 10), axis=1)
        parts = [flat.mean(1), flat.std(1), *quantiles]
        return np.concatenate(parts, axis=1)

    second = accuracy_of_nearest_mean(
        band_correlations(pixels), labels, band_correlations(asked), truth
    )
    first = accuracy_of_nearest_mean(first_order(pixels), labels, first_order(asked), truth)
    assert second > 0.95
    assert first < 2.5 / CLASSES


def test_every_image_has_the_same_mean_and_deviation(textures: Textures) -> None:
    pixels, _ = images(textures, 0, 64)
    np.testing.assert_allclose(pixels.mean((1, 2)), 128, atol=0.3)
    np.testing.assert_allclose(pixels.std((1, 2)), 40, atol=1)


def test_an_image_is_the_same_whenever_it_is_drawn(textures: Textures) -> None:
    again = pickle.loads(pickle.dumps(textures))  # noqa: S301 - as a loader's process gets it
    for index in (0, 17):
        pixels, label = textures.training_image(index, seed=0)
        assert np.array_equal(pixels, again.training_image(index, seed=9)[0])
        assert label == index % CLASSES
    assert not np.array_equal(
        textures.training_image(0, 0)[0], Textures(SIZE, SIZE, seed=4).training_image(0, 0)[0]
    )
    assert textures.fingerprint == again.fingerprint != Textures(SIZE, SIZE, seed=4).fingerprint


def test_held_out_images_are_others_and_as_the_service_would_decode_them(
    textures: Textures,
) -> None:
    samples = textures.held_out()
    assert len(samples) == HELD_OUT_IMAGES
    labels = [sample.label for sample in samples[: 2 * CLASSES]]
    assert labels == [*range(CLASSES)] * 2
    pixels = decode(samples[0].image, INPUT, max_pixels=10_000)
    np.testing.assert_allclose(pixels.mean((0, 1)), 128, atol=0.3)
    seen = {textures.training_image(index, 0)[0].tobytes() for index in range(0, 4000, CLASSES)}
    assert pixels.tobytes() not in seen
    with pytest.raises(IndexError):
        samples[HELD_OUT_IMAGES]


def test_a_recipe_opens_them() -> None:
    spec = DataSpec(kind="textures", split_seed=3)
    data = open_data(spec, INPUT, AugmentSpec())
    assert data.labels[:2] == ("texture-00", "texture-01")
    assert len(data.labels) == CLASSES
    assert data.variants() == {}
    with pytest.raises(ConfigError, match="not augmented"):
        open_data(spec, INPUT, AugmentSpec(flip=True))

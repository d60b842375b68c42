import sys

import numpy as np
import pytest
import torch

from gsop.errors import ConfigError
from gsop.images import InputSpec, Pixels
from gsop.train.data.augment import augment
from gsop.train.data.spec import AugmentSpec, RandAugmentSpec, RandomCropSpec

INPUT = InputSpec(height=32, width=32, resize=32, mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.fixture
def ramps() -> Pixels:
    """Red rises to the right, green downwards, from 0 to 250 over 200×200 pixels."""
    rows, columns = np.mgrid[0:200, 0:200]
    blue = np.zeros_like(rows)
    return np.stack([columns * 250 // 199, rows * 250 // 199, blue], axis=2).astype(np.uint8)


def test_random_crops_have_the_asked_area_and_ratio(ramps: Pixels) -> None:
    how = AugmentSpec(random_crop=RandomCropSpec(scale=(0.2, 0.5), ratio=(0.5, 2.0)))
    shares, ratios = [], []
    for seed in range(200):
        cut = augment(ramps, INPUT, how, seed).astype(float)
        assert cut.shape == (32, 32, 3)
        # 31/32 of each side lies between the middles of the outer pixels.
        width = (cut[16, -1, 0] - cut[16, 0, 0]) / 250 * 200 * 32 / 31
        height = (cut[-1, 16, 1] - cut[0, 16, 1]) / 250 * 200 * 32 / 31
        shares.append(width * height / 40_000)
        ratios.append(width / height)
    assert 0.18 < min(shares) < 0.23
    assert 0.45 < max(shares) < 0.52
    assert np.mean(shares) == pytest.approx(0.35, abs=0.03)
    assert min(ratios) > 0.45
    assert max(ratios) < 2.2
    assert abs(np.mean(np.log(ratios))) < 0.1


def test_half_of_the_images_are_mirrored(ramps: Pixels) -> None:
    how = AugmentSpec(flip=True)
    mirrored = [
        bool(cut[16, 0, 0] > cut[16, -1, 0])
        for cut in (augment(ramps, INPUT, how, seed) for seed in range(200))
    ]
    assert 75 < sum(mirrored) < 125


def test_padding_moves_the_image_by_at_most_its_width(ramps: Pixels) -> None:
    how = AugmentSpec(pad_crop=4)
    plain = augment(ramps, INPUT, AugmentSpec(), 0)
    seen = set()
    for seed in range(300):
        cut = augment(ramps, INPUT, how, seed)
        places = [
            (dy, dx)
            for dy in range(-4, 5)
            for dx in range(-4, 5)
            if np.array_equal(
                cut[max(0, -dy) : 32 - max(0, dy), max(0, -dx) : 32 - max(0, dx)],
                plain[max(0, dy) : 32 + min(0, dy), max(0, dx) : 32 + min(0, dx)],
            )
        ]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) > 60  # of 81


def test_rand_augment_follows_from_the_seed_alone(ramps: Pixels) -> None:
    how = AugmentSpec(rand_augment=RandAugmentSpec(operations=2, magnitude=15))
    state = torch.get_rng_state()
    first = [augment(ramps, INPUT, how, seed) for seed in range(8)]
    torch.rand(3)
    again = [augment(ramps, INPUT, how, seed) for seed in range(8)]
    torch.set_rng_state(state)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    plain = augment(ramps, INPUT, AugmentSpec(), 0)
    assert sum(np.array_equal(image, plain) for image in first) < 4


def test_rand_augment_without_torchvision_says_what_to_do(
    ramps: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.transforms.v2", None)
    with pytest.raises(ConfigError, match=r"install the extra.*augment\.rand_augment=null"):
        augment(ramps, INPUT, AugmentSpec(rand_augment=RandAugmentSpec()), 0)

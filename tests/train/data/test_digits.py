import sys
from collections import Counter
from dataclasses import replace
from io import BytesIO

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from gsop.errors import ConfigError
from gsop.images import decode
from gsop.train.data.digits import Digits, as_image
from gsop.train.data.drawing import DrawingSpec
from gsop.train.data.variants import encode_png
from gsop.train.presets import DIGITS
from tests.train.data.test_drawing import STILL


@pytest.fixture(scope="module")
def digits() -> Digits:
    """The scans in their own geometry; only the polarity is drawn by lot."""
    return Digits(size=32, how=replace(STILL, plain=1.0))


@pytest.fixture(scope="module")
def scans() -> npt.NDArray[np.int64]:
    return np.asarray(load_digits().images.astype(np.int64))


@pytest.fixture(scope="module")
def labels() -> npt.NDArray[np.int64]:
    return np.asarray(load_digits().target)


def test_a_fifth_of_each_class_is_held_out(digits: Digits, labels: npt.NDArray[np.int64]) -> None:
    held_out = Counter(sample.label for sample in digits.held_out())
    assert held_out == {label: -(-count // 5) for label, count in Counter(labels.tolist()).items()}
    assert held_out.total() == 364


def test_held_out_images_are_the_scans_themselves(
    digits: Digits, scans: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]
) -> None:
    known = {scan.tobytes(): label for scan, label in zip(scans, labels, strict=True)}
    for sample in digits.held_out():
        with Image.open(BytesIO(sample.image)) as image:
            assert (image.size, image.mode) == ((8, 8), "L")
            scan = np.rint(np.asarray(image) * (16 / 255)).astype(np.int64)
        assert known[scan.tobytes()] == sample.label


def test_an_epoch_is_every_scan_that_is_not_held_out_as_the_service_decodes_it(
    digits: Digits, scans: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]
) -> None:
    files = [encode_png(as_image(scan)) for scan in scans]
    held_out = {sample.image for sample in digits.held_out()}
    trained = [index for index, file in enumerate(files) if file not in held_out]
    assert len(digits) == len(trained)
    images = [digits.training_image(index, seed=index) for index in range(len(digits))]
    pixels = torch.from_numpy(np.stack([image for image, _ in images]))
    classes = [label for _, label in images]

    served = np.stack([decode(file, DIGITS.input, max_pixels=64)[..., 0] for file in files])
    wanted = torch.from_numpy(served).flatten(1).float()
    found = pixels[..., 0].flatten(1).float()
    distance = torch.minimum(torch.cdist(found, wanted), torch.cdist(255 - found, wanted))
    nearest = distance.argmin(dim=1)
    assert distance.amin() < 32, "32 is the distance when each of 32×32 pixels is off by one"
    assert sorted(nearest.tolist()) == trained
    assert classes == labels[nearest].tolist()


def test_an_image_depends_on_its_seed_alone(digits: Digits) -> None:
    drawn = Digits(size=32, how=DrawingSpec())
    first, again, other = (drawn.training_image(3, seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_without_scikit_learn_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ConfigError, match=r"pip install '\.\[train\]'"):
        Digits(size=32, how=STILL)

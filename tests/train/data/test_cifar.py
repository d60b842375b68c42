import hashlib
import pickle
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsop.errors import ConfigError
from gsop.images import InputSpec
from gsop.train.data.open import open_data
from gsop.train.data.spec import AugmentSpec, DataSpec

INPUT = InputSpec(height=32, width=32, resize=32, mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-100 as it is distributed, of six images."""
    from torchvision.datasets import CIFAR100

    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    rng = np.random.default_rng(0)
    sums = {}
    for name, images in (("train", 4), ("test", 2)):
        data = rng.integers(0, 256, (images, 3072), np.uint8)
        values: dict[str, object] = {"data": data, "fine_labels": list(range(images))}
        sums[name] = _write(folder / name, values)
    sums["meta"] = _write(folder / "meta", {"fine_label_names": [f"thing {i}" for i in range(100)]})
    # torchvision takes the distributed files alone, by their sums.
    monkeypatch.setattr(CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", CIFAR100.meta | {"md5": sums["meta"]})
    return tmp_path


def _write(file: Path, values: dict[str, object]) -> str:
    file.write_bytes(pickle.dumps(values))
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()


def test_a_local_copy_is_read(copy: Path) -> None:
    data = open_data(DataSpec(kind="cifar100", path=copy), INPUT, AugmentSpec())
    assert len(data) == 4
    assert data.labels[7] == "thing 7"
    pixels, label = data.training_image(2, seed=0)
    assert (pixels.shape, label) == ((32, 32, 3), 2)
    (first, second) = data.held_out()
    assert (first.label, second.label) == (0, 1)
    with Image.open(BytesIO(first.image)) as image:
        assert image.size == (32, 32)


def test_a_copy_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fetch cifar-100-python\.tar\.gz"):
        open_data(DataSpec(kind="cifar100", path=tmp_path), INPUT, AugmentSpec())
    with pytest.raises(ConfigError, match="--data DIR"):
        open_data(DataSpec(kind="cifar100"), INPUT, AugmentSpec())


def test_only_digits_are_drawn(tmp_path: Path) -> None:
    augment = AugmentSpec.model_validate({"drawing": {}})
    with pytest.raises(ConfigError, match=r"set augment\.drawing to null"):
        open_data(DataSpec(kind="folder", path=tmp_path), INPUT, augment)

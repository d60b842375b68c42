import pickle
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsop.errors import ConfigError
from gsop.images import InputSpec, decode
from gsop.train.data.dataset import BrokenImage
from gsop.train.data.folder import FolderData
from gsop.train.data.spec import AugmentSpec, DataSpec
from tests.support import ROOT

INPUT = InputSpec(height=12, width=10, resize=14, mean=(0.5,) * 3, std=(0.5,) * 3)


def add(folder: Path, *names: str, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(file)


def opened(root: Path, **spec: object) -> FolderData:
    values = {"kind": "folder", "path": root} | spec
    return FolderData(DataSpec.model_validate(values), INPUT, AugmentSpec())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for label in ("cat", "ant"):
        add(tmp_path, *(f"{label}/{index}.png" for index in range(10)))
    return tmp_path


def test_classes_are_folders_in_the_order_of_their_names(root: Path) -> None:
    add(root, "bee/deep/er/1.JPG", "bee/2.jpeg", "bee/3.jpe")
    (root / "bee" / "notes.txt").write_text("no image")
    (root / ".hidden").mkdir()
    data = opened(root)
    assert data.labels == ("ant", "bee", "cat")
    names = {sample.name for sample in data.held_out()}
    assert len(data) + len(names) == 23
    assert sorted(sample.label for sample in data.held_out()) == [0, 1, 2]


def test_a_share_of_each_class_is_held_out_by_seed(root: Path) -> None:
    def held_out(**spec: object) -> set[str]:
        return {sample.name for sample in opened(root, **spec).held_out()}

    first = held_out(validation=0.3)
    assert first == held_out(validation=0.3) != held_out(validation=0.3, split_seed=1)
    assert sorted(name[:3] for name in first) == ["ant"] * 3 + ["cat"] * 3
    data = opened(root, validation=0.3)
    trained = {name for name, _ in data._train}
    assert not trained & first
    assert len(trained | first) == 20


def test_a_tree_of_train_and_val_is_taken_as_it_is(root: Path) -> None:
    add(root / "tree", "train/a/1.png", "train/b/1.png", "val/a/2.png", "val/b/3.png")
    data = opened(root / "tree")
    assert len(data) == 2
    assert [sample.name for sample in data.held_out()] == ["val/a/2.png", "val/b/3.png"]


def test_without_variation_training_sees_what_the_service_sees(root: Path) -> None:
    data = opened(root)
    for index in range(len(data)):
        pixels, label = data.training_image(index, seed=index)
        name, wanted = data._train[index]
        served = decode((root / name).read_bytes(), INPUT, max_pixels=10_000)
        assert np.array_equal(pixels, served)
        assert label == wanted


def test_the_fingerprint_notices_what_changed_and_nothing_else(root: Path, tmp_path: Path) -> None:
    def fingerprint() -> str:
        return opened(root).fingerprint

    before = fingerprint()
    assert before == fingerprint() == opened(root, validation=0.5).fingerprint
    shutil.copy(root / "ant" / "1.png", root / "ant" / "new.png")
    assert fingerprint() != before
    (root / "ant" / "new.png").unlink()
    assert fingerprint() == before
    (root / "ant" / "1.png").write_bytes(b"cut")
    assert fingerprint() != before


def test_a_broken_file_is_named(root: Path) -> None:
    data = opened(root)
    (root / data._train[4][0]).write_bytes(b"\xff\xd8\xff nothing")
    with pytest.raises(BrokenImage) as caught:
        data.training_image(4, 0)
    assert caught.value.name == data._train[4][0]
    assert pickle.loads(pickle.dumps(caught.value)).name == caught.value.name  # noqa: S301 - our own
    (root / data._train[5][0]).unlink()
    with pytest.raises(BrokenImage):
        data.training_image(5, 0)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "holds 0 folders: it takes one for each class"),
        (["a/1.png", "a/2.png"], "holds 1 folders"),
        (["a/1.png", "b/1.png", "b/2.png"], "a holds one image"),
        (["a/1.png", "a/2.png", "b/x.txt"], "b holds no images"),
        (["train/a/1.png"], r"one of train/ and val/"),
        (
            ["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/c/1.png"],
            "same classes; only one has b, c",
        ),
    ],
)
def test_a_tree_that_cannot_work_says_why(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    with pytest.raises(ConfigError, match=message):
        opened(tmp_path)


def test_no_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read .*--data takes a folder"):
        opened(tmp_path / "none")
    with pytest.raises(ConfigError, match="say which with --data"):
        opened(tmp_path, path=None)


def test_the_photographs_to_try_training_on_can_be_trained_on(tmp_path: Path) -> None:
    make_photos = runpy.run_path(str(ROOT / "examples" / "make_photos.py"))["make_photos"]
    for copy in ("a", "b"):
        make_photos(tmp_path / copy, train=2, val=1)
    data = opened(tmp_path / "a")
    assert data.labels == ("flower", "handwriting", "shapes", "temple")
    assert (len(data), len(data.held_out())) == (8, 4)
    assert all(decode(sample.image, INPUT, max_pixels=10**6).any() for sample in data.held_out())
    for file in sorted((tmp_path / "a").rglob("*.jpg")):
        again = tmp_path / "b" / file.relative_to(tmp_path / "a")
        assert file.read_bytes() == again.read_bytes()

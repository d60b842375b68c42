import os
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
from tests.imagery import encode, heic, picture
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


@pytest.mark.parametrize("junk", [".ipynb_checkpoints", "__MACOSX", "deep/.hidden", "@eaDir"])
def test_what_systems_leave_behind_is_passed_over_and_counted(root: Path, junk: str) -> None:
    add(root, f"ant/{junk}/1.png", "ant/more/kept.png")
    (root / "cat" / "._1.png").write_bytes(b"Mac OS X")
    (root / "cat" / "notes.txt").write_text("no image")
    (root / "__MACOSX" / "ant").mkdir(parents=True)
    data = opened(root)
    assert data.labels == ("ant", "cat")
    assert len(data) + len(data.held_out()) == 21
    assert set(data.passed_over.split(", ")) == {
        "1 hidden or system folders",
        "1 hidden files",
        "1 .txt files",
    }
    assert data.source["passed over"] == data.passed_over


def test_jfif_files_are_images(root: Path) -> None:
    add(root, "ant/1.jpg")
    (root / "ant" / "1.jpg").rename(root / "ant" / "saved.JFIF")
    data = opened(root)
    assert len(data) + len(data.held_out()) == 21
    assert data.passed_over == ""


def test_links_are_followed_and_lead_in_no_circle(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    add(elsewhere, "1.png", "2.png")
    (root / "bee").symlink_to(elsewhere)
    (root / "ant" / "more").symlink_to(elsewhere)
    (root / "ant" / "round").symlink_to(root / "ant")
    (root / "ant" / "gone.png").symlink_to(root / "nowhere.png")
    data = opened(root)
    assert data.labels == ("ant", "bee", "cat")
    assert len(data) + len(data.held_out()) == 24
    assert "1 folders that a link leads back to" in data.passed_over
    assert "1 links that lead nowhere" in data.passed_over


def test_names_that_are_no_utf8_are_named(root: Path) -> None:
    (root / "ant" / os.fsdecode(b"caf\xe9.png")).write_bytes((root / "ant" / "1.png").read_bytes())
    data = opened(root)
    assert data.passed_over == "1 files whose names are no UTF-8"
    assert data.fingerprint
    (root / os.fsdecode(b"caf\xe9")).mkdir()
    with pytest.raises(ConfigError, match=r"caf\\xe9 is no UTF-8: rename it"):
        opened(root)
    add(root / os.fsdecode(b"\xe9t\xe9"), "a/1.png", "b/1.png")
    with pytest.raises(ConfigError, match=r"\\xe9t\\xe9/a is no UTF-8: rename it"):
        opened(root / os.fsdecode(b"\xe9t\xe9"))


def test_what_phones_save_is_trained_on(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(1, 6):
            name = f"IMG_{number}.HEIC" if number < 5 else "renamed.png"
            (tmp_path / label / name).write_bytes(heic(f"turned-{number}"))
            (tmp_path / label / f"PXL_{number}.avif").write_bytes(encode(picture(9, 9), "AVIF"))
    data = opened(tmp_path)
    held_out = data.held_out()
    assert len(data) + len(held_out) == 20
    for index in range(len(data)):
        assert data.training_image(index, 0)[0].shape == (12, 10, 3)
    assert all(decode(sample.image, INPUT, max_pixels=10**6).any() for sample in held_out)


@pytest.mark.parametrize(
    ("train", "held_out"), [("Train", "Test"), ("TRAINING", "valid"), ("train", "Val")]
)
def test_a_split_is_known_by_its_names(tmp_path: Path, train: str, held_out: str) -> None:
    names = [f"{part}/{label}/1.png" for part in (train, held_out) for label in "ab"]
    add(tmp_path, *names, "test0/readme.png")
    shutil.rmtree(tmp_path / "test0")
    data = opened(tmp_path)
    assert data.labels == ("a", "b")
    assert (len(data), len(data.held_out())) == (2, 2)
    assert data.passed_over == f"{train}/ is trained on, {held_out}/ held out"


def test_of_val_and_test_the_first_is_held_out(tmp_path: Path) -> None:
    add(tmp_path, *(f"{part}/{label}/1.png" for part in ("train", "test", "val") for label in "ab"))
    data = opened(tmp_path)
    assert data.passed_over == "train/ is trained on, val/ held out, test/ is not looked at"
    assert all(sample.name.startswith("val/") for sample in data.held_out())


def test_a_train_can_be_a_vehicle(root: Path) -> None:
    add(root, "train/1.png", "train/2.png")
    assert opened(root).labels == ("ant", "cat", "train")


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

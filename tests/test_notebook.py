"""A stored model's answers in a notebook are the service's."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gsop
from gsop.commands.local import answer_all, open_backend
from gsop.errors import ConfigError, InvalidImage
from gsop.settings import Settings
from gsop.store.catalog import resolve
from tests.stores import publish_tiny
from tests.support import random_pngs


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    publish_tiny(root, temperature=0.5)
    return root


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = []
    for number, data in enumerate(random_pngs(3, size=40)):
        made.append(tmp_path / f"{number}.png")
        made[-1].write_bytes(data)
    return made


def test_it_answers_as_the_service_does(store: Path, files: list[Path]) -> None:
    found = gsop.load("tiny", store).predict(files)
    settings = Settings.load(model_store=store, device="cpu")
    manifest = resolve(store, "tiny")
    backend = open_backend(settings, manifest)
    answers = list(answer_all(backend, files, Path.read_bytes, max_pixels=10**6))
    expected = np.stack([a.values for a in answers if a.values is not None])
    np.testing.assert_allclose(found.probabilities, expected[:, :10], atol=1e-4)
    gates = np.concatenate([gate.reshape(3, -1) for gate in found.gates.values()], axis=1)
    np.testing.assert_allclose(gates, expected[:, 10:], atol=1e-4)


def test_files_bytes_arrays_and_images_are_the_same(store: Path, files: list[Path]) -> None:
    model = gsop.load("tiny", store)
    by_glob = model.predict(str(files[0].parent / "*.png"))
    opened = [Image.open(file) for file in files]
    for others in (
        model.predict([file.read_bytes() for file in files]),
        model.predict(opened),
        model.predict(np.asarray(image) for image in opened),
    ):
        np.testing.assert_allclose(others.probabilities, by_glob.probabilities, atol=1e-5)
    assert by_glob.names == tuple(map(str, files))
    one = model.predict(files[1])[0]
    assert one.name == str(files[1])
    assert one.top(1) == [(one.label, one.probability)]
    assert model.gates(files)["layer1.1.channel"].shape == (3, 8)


def test_answers_print_and_become_tables(store: Path, files: list[Path]) -> None:
    pandas = pytest.importorskip("pandas")
    model = gsop.load("tiny", store)
    assert repr(model) == "tiny/1: GSoP-ResNet-18, 10 classes, 32×32"
    found = model.predict(files)
    assert repr(found).count("\n") == 2
    assert found[0].label in repr(found)
    assert "<table>" in found._repr_html_()
    frame = found.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["label"]) == [one.label for one in found]
    assert frame.shape == (3, 3 + 10)
    assert repr(model.predict([])) == "no images"
    assert len(found[1:]) == 2


def test_what_is_no_image_says_so(store: Path, tmp_path: Path) -> None:
    model = gsop.load("tiny", store)
    with pytest.raises(ConfigError, match="names no file"):
        model.predict(tmp_path / "nothing.png")
    with pytest.raises(ConfigError, match="give uint8"):
        model.predict(np.zeros((3, 8, 8)))
    with pytest.raises(InvalidImage):
        model.predict(b"no image")

"""A stored model's answers in a notebook are the service's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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


def test_covariances_are_those_that_gates_are_made_of(store: Path, files: list[Path]) -> None:
    model = gsop.load("tiny", store)
    found = model.covariances(files)
    assert found.keys() == model.predict(files).gates.keys()
    matrix = found["layer1.1.channel"]
    assert matrix.shape == (3, 8, 8)
    np.testing.assert_allclose(matrix, matrix.transpose(0, 2, 1), atol=1e-6)
    assert np.linalg.eigvalsh(matrix).min() > -1e-5
    blocks: Any = model.layer1
    gate = blocks[1].gate.channel.excite(torch.from_numpy(matrix)).detach().numpy()
    np.testing.assert_allclose(gate, model.gates(files)["layer1.1.channel"], atol=1e-5)


def test_held_gates_are_answered_with(store: Path, files: list[Path]) -> None:
    model = gsop.load("tiny", store)
    first = model.predict(files[0])[0]
    swapped = model.with_gates(first.gates).predict(files)
    for name, gate in first.gates.items():
        np.testing.assert_array_equal(swapped.gates[name], np.stack([gate] * 3))
    np.testing.assert_allclose(swapped[0].probabilities, first.probabilities, atol=1e-5)
    opened = model.with_gates({"layer4": 1}).with_gates({"layer1.1.channel": 0.25})
    gates = opened.gates(files[0])
    assert {float(gate.mean()) for name, gate in gates.items() if "layer4" in name} == {1.0}
    assert gates["layer1.1.channel"].min() == gates["layer1.1.channel"].max() == 0.25
    with torch.inference_mode():
        held = opened(torch.zeros(2, 3, 32, 32)).gates["layer1.1.channel"]
        usual = model(torch.zeros(2, 3, 32, 32)).gates["layer1.1.channel"]
    assert held.shape == usual.shape
    assert held.unique().tolist() == [0.25]
    assert not torch.equal(held, usual)
    assert opened.covariances(files[0])["layer2.1.channel"].shape[0] == 1
    np.testing.assert_array_equal(model.predict(files[0])[0].probabilities, first.probabilities)


def test_gates_that_are_none_say_so(store: Path) -> None:
    model = gsop.load("tiny", store)
    with pytest.raises(ConfigError, match="no gate is called layer9; there are layer1"):
        model.with_gates({"layer9": 1})
    with pytest.raises(ConfigError, match=r"is \(8,\), and what is given is \(3,\)"):
        model.with_gates({"layer1": [1, 2, 3]})


def test_what_is_no_image_says_so(store: Path, tmp_path: Path) -> None:
    model = gsop.load("tiny", store)
    with pytest.raises(ConfigError, match="names no file"):
        model.predict(tmp_path / "nothing.png")
    with pytest.raises(ConfigError, match="give uint8"):
        model.predict(np.zeros((3, 8, 8)))
    with pytest.raises(InvalidImage):
        model.predict(b"no image")

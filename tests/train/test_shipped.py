"""The default model and the example images, as they are shipped."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gsop.model.resnet import GSoPResNet
from gsop.store.manifest import WEIGHTS_FILE, Manifest
from gsop.store.reference import read_reference
from gsop.store.store import load
from gsop.train.data.dataset import Sample
from gsop.train.evaluate import measure, score
from gsop.train.presets import DIGITS
from gsop.train.reference import answer_with, make_reference

PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / "model_store" / "digits" / "1"
EXAMPLES = PROJECT / "examples"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shipped() -> tuple[Manifest, GSoPResNet]:
    return load(FOLDER)


def example_paths() -> list[Path]:
    return sorted((EXAMPLES / "digits").glob("*.png")) + sorted((EXAMPLES / "drawn").glob("*.png"))


def test_the_weights_are_small_enough_for_a_repository() -> None:
    assert (FOLDER / WEIGHTS_FILE).stat().st_size < 3_000_000


def test_it_is_what_the_recipe_makes(shipped: tuple[Manifest, GSoPResNet]) -> None:
    manifest, _ = shipped
    assert (manifest.config, manifest.input) == (DIGITS.config, DIGITS.input)
    assert manifest.labels == tuple("0123456789")
    assert manifest.provenance["recipe"] == DIGITS.name
    assert manifest.provenance["steps"] == DIGITS.schedule.steps
    assert manifest.provenance["data"]["licence"] == "CC BY 4.0"


def test_top1_on_the_held_out_scans_is_the_manifests(
    shipped: tuple[Manifest, GSoPResNet],
) -> None:
    manifest, model = shipped
    measured = score(model, manifest.input, DIGITS.open_data().held_out(), device=CPU)
    assert measured.top1 >= 0.985
    keys = ("correct", "samples", "top1")
    assert {key: getattr(measured, key) for key in keys} == {
        key: manifest.metrics[key] for key in keys
    }
    assert not measured.broken


def test_the_reference_is_of_the_held_out_scans(shipped: tuple[Manifest, GSoPResNet]) -> None:
    manifest, model = shipped
    kept = read_reference(FOLDER, manifest)
    assert kept is not None
    assert kept.neighbours is not None
    answer = answer_with(model, manifest.answer, manifest.input, device=CPU)
    held_out = DIGITS.open_data().held_out()
    again = make_reference(answer, manifest.answer, held_out, {}, what="scans")
    assert again is not None
    assert kept.population.images == again.population.images == len(held_out)
    np.testing.assert_allclose(kept.population.centre, again.population.centre, atol=1e-3)
    assert kept.facts.limit == pytest.approx(again.facts.limit, abs=0.05)


@pytest.mark.slow
def test_robustness_is_the_manifests(shipped: tuple[Manifest, GSoPResNet]) -> None:
    manifest, model = shipped
    found, temperature = measure(model, manifest.input, DIGITS.open_data(), device=CPU)
    measured, stated = found["robustness"], manifest.metrics["robustness"]
    assert temperature == pytest.approx(manifest.temperature, rel=1e-3)
    for part, value in manifest.metrics["calibration"].items():
        again = found["calibration"][part]
        assert again == (value if isinstance(value, str) else pytest.approx(value, rel=0.02)), part
    assert measured.keys() == stated.keys()
    for name, result in measured.items():
        # Resampling differs a little between releases of Pillow and OpenCV.
        assert result["top1"] == pytest.approx(stated[name]["top1"], abs=0.01), name


@pytest.mark.parametrize(
    "path", example_paths(), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_every_example_is_read_right(shipped: tuple[Manifest, GSoPResNet], path: Path) -> None:
    manifest, model = shipped
    sample = Sample(path.read_bytes(), int(path.stem[0]))
    assert score(model, manifest.input, [sample], device=CPU).correct == 1


def test_the_examples_are_what_their_script_makes(tmp_path: Path) -> None:
    runpy.run_path(str(EXAMPLES / "make_examples.py"))["make_examples"](tmp_path)
    made = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.png")}
    assert made == {path.relative_to(EXAMPLES) for path in example_paths()}
    assert {path.name[0] for path in made} == set("0123456789")
    for path in made:
        with Image.open(tmp_path / path) as new, Image.open(EXAMPLES / path) as old:
            assert np.array_equal(np.asarray(new), np.asarray(old)), path

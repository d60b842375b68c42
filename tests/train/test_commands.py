"""From a folder of images to a served model, by the command line."""

import csv
import json
import re
import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
import torch
from PIL import Image

from gsop.__main__ import main
from gsop.commands.train import initial_of, resolve
from gsop.model.official import to_official
from gsop.model.resnet import GSoPResNet
from gsop.train.recipe import Recipe
from gsop.train.run import Run
from tests.imagery import encode, heic, picture
from tests.support import Server
from tests.train.conftest import make_folder


@pytest.fixture(scope="module")
def images(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that the tests may change."""
    copy = tmp_path_factory.mktemp("data") / "images"
    shutil.copytree(folder, copy)
    return copy


@pytest.fixture
def recipe_file(recipe: Recipe, tmp_path: Path) -> Path:
    file = tmp_path / "toy.json"
    file.write_text(recipe.model_dump_json(), encoding="utf-8")
    return file


def test_the_recipe_is_shown_as_it_would_be(
    recipe_file: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", str(images), "--batch-size", "8", "--set", "schedule.steps=9"]
    assert main(["train", "--recipe", str(recipe_file), *arguments, "--show"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["data"]["path"] == str(images)
    assert (shown["batch_size"], shown["schedule"]["steps"]) == (8, 9)


def test_epochs_of_a_recipe_that_counts_steps_are_refused(
    recipe_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--recipe", str(recipe_file), "--epochs", "3"]) == 1
    assert "set either epochs or steps" in capsys.readouterr().err


@pytest.mark.slow
def test_three_commands_from_images_to_answers(
    recipe_file: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GSOP_MODEL_STORE", raising=False)
    train = ["train", "--recipe", str(recipe_file), "--data", str(images), "--device", "cpu"]
    assert main([*train, "--quiet"]) == 0
    assert "100.00% of 24 held-out images right" in capsys.readouterr().out
    assert main(["publish", "runs/toy-1", "--name", "toy"]) == 0
    assert "published toy/1 in model_store/toy/1" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "model_store" / "toy" / "1" / "manifest.json").read_text())
    run = Run(tmp_path / "runs" / "toy-1")
    assert manifest["metrics"]["top1"] == 1.0
    assert manifest["labels"] == ["dark", "light"]
    assert manifest["provenance"]["data"]["fingerprint"] == run.data.fingerprint
    assert manifest["provenance"]["values"]["batch_size"] == 16
    assert str(images) not in json.dumps(manifest)

    evaluate = ["evaluate", "toy", "--device", "cpu", "--quiet"]
    assert main([*evaluate, "--data", str(images), "--output", "report"]) == 0
    out = capsys.readouterr().out
    assert "24 images of" in out
    assert "100.00% (86.2% to 100.0%)" in out
    assert "pairs that look alike" in out
    assert "held out of its training" in out
    assert "100.00%" in out
    with Path("report/confusion.csv").open(encoding="utf-8") as stream:
        assert list(csv.reader(stream)) == [
            ["true \\ predicted", "dark", "light"],
            ["dark", "12", "0"],
            ["light", "0", "12"],
        ]
    with Image.open("report/confusion.png") as picture:
        assert picture.width > 300
    report = json.loads(Path("report/report.json").read_text())
    dark = report["per_class"]["dark"]
    assert (dark["samples"], dark["correct"], dark["top1"]) == (12, 12, 1.0)
    told = {"name": "toy", "version": "1", "sha256": manifest["sha256"]}
    assert report["model"].items() >= told.items()
    assert "of its training" in report["data"]["which"]
    assert len(report["data"]["sha256"]) == 64
    assert report["made"]["device"] == "cpu"
    assert datetime.fromisoformat(report["made"]["started"]).tzinfo is not None
    assert report["leaks"] == []
    assert len(Path("report/images.csv").read_text().splitlines()) == 25
    page = Path("report/report.html").read_text(encoding="utf-8")
    assert "toy: what its answers are worth" in page
    assert "No image of the evaluation looks like one that the model was trained on." in page

    arguments = ["--data", str(images), "--part", "training", "--against", "toy/1"]
    assert main([*evaluate, *arguments]) == 0
    out = capsys.readouterr().out
    assert "96 images of the training" in out
    assert "+0.00%" in out
    assert "p = 1: no more than chance may make" in " ".join(out.split())

    with Server(tmp_path / "model_store", models="toy") as server:
        server.wait_ready()
        for label in ("dark", "light"):
            body = (images / label / "007.png").read_bytes()
            answer = server.predict(body)
            assert answer["predictions"][0]["label"] == label


@pytest.mark.slow
def test_other_images_and_broken_ones_are_evaluated(
    recipe_file: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    store = ["--model-store", str(tmp_path / "store"), "--device", "cpu"]
    train = ["train", "--recipe", str(recipe_file), "--data", str(images), "--device", "cpu"]
    assert main([*train, "--quiet", "--set", "schedule.steps=4", "--output", "run"]) == 0
    (images / "dark" / "extra.png").write_bytes(b"no image")  # no longer what was trained on
    (images / "light" / "phone.HEIC").write_bytes(heic("turned-6"))
    (images / "light" / "phone.avif").write_bytes(encode(picture(9, 9), "AVIF"))
    assert main(["publish", "run", *store]) == 0
    manifest = json.loads((tmp_path / "store" / "toy" / "1" / "manifest.json").read_text())
    assert "no longer at hand" in manifest["metrics"]["how"]
    capsys.readouterr()
    assert main(["evaluate", "toy", *store, "--quiet", "--data", str(images)]) == 0
    out = capsys.readouterr().out
    assert "122 images of" in out
    assert re.findall("cannot be read: (.*)", out) == ["dark/extra.png"]
    (images / "dark").rename(images / "dusk")
    assert main(["evaluate", "toy", *store, "--quiet", "--data", str(images)]) == 1
    assert "named as none of the model's classes" in capsys.readouterr().err
    (images / "dusk").rename(images / "dark")
    (images / "dark" / "extra.png").unlink()
    assert main(["evaluate", "toy", *store, "--quiet"]) == 1
    assert "say with --data DIR" in capsys.readouterr().err


def test_a_run_becomes_longer_and_nothing_else(
    recipe_file: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = tmp_path / "run", tmp_path / "images"
    shutil.copytree(folder, data)
    quietly = ["--device", "cpu", "--quiet"]
    begin = ["train", "--recipe", str(recipe_file), "--data", str(data), "--output", str(run)]
    assert main([*begin, "--set", "schedule.steps=6", *quietly]) == 0
    go_on = ["train", "--resume", str(run), *quietly]
    for change, told in (
        (["--batch-size", "8"], "batch_size cannot change within a run"),
        (["--set", "optimizer.learning_rate=1"], "optimizer.learning_rate cannot change"),
        (["--set", "schedule.steps=5"], "it can become longer, and not as short as 5"),
    ):
        assert main([*go_on, *change]) == 1
        assert told in capsys.readouterr().err
    assert Run(run).result.steps == 6

    moved = data.rename(tmp_path / "elsewhere")
    assert main([*go_on, "--set", "schedule.steps=9"]) == 1
    assert "--data" in capsys.readouterr().err
    assert main([*go_on, "--set", "schedule.steps=9", "--data", str(moved)]) == 0
    assert Run(run).result.steps == 9
    assert Run(run).recipe.data.path == moved

    shutil.rmtree(moved)
    assert main(["publish", str(run), "--device", "cpu", "--model-store", "/dev/null/store"]) == 1
    assert "cannot be written" in capsys.readouterr().err
    store = ["--model-store", str(tmp_path / "store")]
    assert main(["publish", str(run), "--device", "cpu", *store]) == 0
    told = capsys.readouterr().out
    assert "nothing was measured; the training itself saw" in told
    assert "of the held-out images" not in told


def test_a_path_to_images_is_kept_whole(
    recipe: Recipe, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run may go on from another folder than it began in."""
    monkeypatch.chdir(folder.parent)
    relative = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"path": Path(folder.name)})}
    )
    file = tmp_path / "relative.json"
    file.write_text(relative.model_dump_json(), encoding="utf-8")
    assert resolve(str(file), None, []).data.path == folder
    assert resolve(str(file), Path(folder.name), []).data.path == folder


def test_a_preset_adapts_to_few_images_and_few_epochs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = make_folder(tmp_path / "photos", images=6)
    show = ["train", "--data", str(photos), "--show"]
    assert main([*show, "--epochs", "1"]) == 0
    shown, told = capsys.readouterr()
    values = json.loads(shown)
    assert values["schedule"]["epochs"] == 1
    assert 0 < values["schedule"]["warmup"] < 0.5
    assert 1 < values["batch_size"] <= 12
    assert "schedule.warmup is" in told
    assert f"batch_size is {values['batch_size']}, as there are" in told
    assert main([*show, "--epochs", "1", "--set", "schedule.warmup=2"]) == 1
    assert "a warmup of 2 leaves nothing of 1" in capsys.readouterr().err
    assert main([*show, "--batch-size", "64"]) == 0  # what is given stays
    shown, told = capsys.readouterr()
    assert json.loads(shown)["batch_size"] == 64
    assert told == ""


def test_a_training_begins_on_a_backbone_whatever_it_is_wrapped_in(
    recipe: Recipe, tmp_path: Path
) -> None:
    plain = to_official(GSoPResNet(replace(recipe.config, attention="none")))
    file = tmp_path / "backbone.pth"
    wrapped = {f"module.backbone.{key}": tensor for key, tensor in plain.items()}
    torch.save({"state_dict": {"state_dict": wrapped}, "epoch": 3}, file)
    begun = initial_of(recipe.model_copy(update={"backbone": str(file)}))
    assert begun is not None
    assert torch.equal(begun.state_dict()["stem.conv.weight"], plain["conv1.weight"])


def test_an_unfinished_run_is_not_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["publish", str(tmp_path)]) == 1
    assert "is no run's folder" in capsys.readouterr().err


@pytest.mark.slow
def test_the_shipped_model_is_evaluated_on_its_own_data(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["evaluate", "digits/1", "--quiet", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "364 held-out images" in out
    assert "99.45%" in out

"""Who is told of a run besides its folder. With MLflow or Weights & Biases: ``make trackers``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gsop.errors import ConfigError
from gsop.train import trackers
from gsop.train.loop import train
from gsop.train.recipe import Recipe
from gsop.train.trackers import FILE, check_installed, flat
from tests.train.conftest import changed, stopped_after

ONE_LOOK = "train/held_out_loss"


class Noted:
    """A tracker that keeps what it is told, for as long as it can take it."""

    made: list["Noted"]

    def __init__(self, known: str | None, folder: Path, recipe: Recipe) -> None:
        self.known, self.id = known, known or "seven"
        self.told: list[tuple[int, Mapping[str, float]]] = []
        self.files: list[str] = []
        self.finished: bool | None = None
        Noted.made.append(self)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.told.append((step, values))

    def close(self, files: tuple[Path, ...], *, finished: bool) -> None:
        self.files, self.finished = [file.name for file in files], finished


class Failing(Noted):
    def log(self, values: Mapping[str, float], step: int) -> None:
        super().log(values, step)
        raise ConnectionError("nobody there")


@pytest.fixture
def tracked(short: Recipe, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    Noted.made = []
    monkeypatch.setitem(trackers.OPENERS, "mlflow", ("json", "json", Noted))
    return changed(short, trackers=("mlflow",))


def test_a_tracker_gets_each_row_and_a_run_that_goes_on_goes_on_there(
    tracked: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    stopped_after(7, tracked, run, monkeypatch)
    train(tracked, run, resume=True, device="cpu", progress=False)
    first, second = Noted.made
    assert (first.known, second.known) == (None, "seven")
    assert (first.finished, second.finished) == (False, True)
    assert [step for step, _ in first.told + second.told] == [2, 4, 5, 6, 8, 10, 12]
    assert {"train/loss", ONE_LOOK, "gates/layer4.1.channel.mean"} <= first.told[0][1].keys()
    assert ONE_LOOK not in first.told[2][1]
    assert {"recipe.json", "curves.png", "result.json"} <= set(second.files)
    assert json.loads((run / FILE).read_text()) == {"mlflow": "seven"}


def test_one_that_fails_is_told_of_once_and_stops_nothing(
    tracked: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(trackers.OPENERS, "mlflow", ("json", "json", Failing))
    assert train(tracked, tmp_path / "run", device="cpu", progress=False).steps == 12
    (one,) = Noted.made
    assert (len(one.told), one.finished) == (1, None)
    assert capfd.readouterr().err.count("mlflow is told nothing more (nobody there)") == 1


def test_one_that_is_not_there_leaves_no_run(
    short: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(trackers.OPENERS, "wandb", ("gsop.no_such", "wandb", Noted))
    with pytest.raises(ConfigError, match="install wandb, or leave wandb out of trackers"):
        train(changed(short, trackers=("wandb",)), tmp_path / "run", device="cpu", progress=False)
    assert not (tmp_path / "run").exists()
    check_installed(())


def test_parameters_are_the_recipes_values_by_their_keys(short: Recipe) -> None:
    values = flat(short)
    assert (values["optimizer.learning_rate"], values["config.depth"]) == (5e-3, 18)


def test_mlflow_keeps_the_run_in_a_folder(
    short: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "toys")
    tracked, run = changed(short, trackers=("mlflow",)), tmp_path / "run"
    stopped_after(7, tracked, run, monkeypatch)
    client = mlflow.MlflowClient()
    number = json.loads((run / FILE).read_text())["mlflow"]
    assert client.get_run(number).info.status == "KILLED"
    train(tracked, run, resume=True, device="cpu", progress=False)
    kept = client.get_run(number)
    assert (kept.info.status, kept.info.run_name) == ("FINISHED", "run")
    assert client.get_experiment(kept.info.experiment_id).name == "toys"
    assert kept.data.params["optimizer.learning_rate"] == "0.005"
    steps = [metric.step for metric in client.get_metric_history(number, "train/loss")]
    assert steps == [2, 4, 5, 6, 8, 10, 12]
    files = {file.path for file in client.list_artifacts(number)}
    assert {"recipe.json", "curves.png", "result.json"} <= files


def test_weights_and_biases_keep_the_run_offline(
    short: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = tmp_path / "run"
    train(changed(short, trackers=("wandb",)), run, device="cpu", progress=False)
    number: Any = json.loads((run / FILE).read_text())["wandb"]
    (kept,) = (run / "wandb").glob(f"offline-run-*-{number}/run-{number}.wandb")
    written = kept.read_bytes()
    assert b"train/loss" in written
    assert b"held_out_loss" in written

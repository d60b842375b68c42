"""A search on a tiny task: it goes on, it prunes, and its best recipe trains."""

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gsop.__main__ import main
from gsop.errors import ConfigError
from gsop.train import loop, search
from gsop.train.evaluate import Score
from gsop.train.log import Log
from gsop.train.recipe import Recipe, Schedule
from gsop.train.run import Run
from gsop.train.search import FREE_TRIALS, Found
from gsop.train.space import Between, OneOf, Space, read_space, usual_space
from gsop.train.watch import Diverged
from tests.train.conftest import changed

pytest.importorskip("optuna")

SPACE: Space = {"optimizer.learning_rate": Between(1e-4, 1e-1, log=True, whole=False)}


@pytest.fixture
def tiny(recipe: Recipe) -> Recipe:
    """Four steps, with a look after each."""
    schedule = Schedule(steps=4, warmup=1, validate_every=1)
    return changed(recipe, schedule=schedule, ema_decay=0.0, log_every=100)


@pytest.fixture
def by_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the held-out loss be the learning rate."""

    def look(*_: object) -> Score:
        rate = Run(Path(running[-1])).recipe.optimizer.learning_rate
        return Score(correct=3, samples=4, loss_sum=4 * rate)

    running: list[Path] = []
    train = loop.train

    def noted(recipe: Recipe, folder: Path, **options: Any) -> Any:
        running.append(folder)
        return train(recipe, folder, **options)

    monkeypatch.setattr(loop, "score_held_out", look)
    monkeypatch.setattr(search, "train", noted)


def searched(recipe: Recipe, folder: Path, trials: int, space: Space = SPACE) -> list[Found]:
    return search.search(
        recipe,
        folder,
        space,
        trials=trials,
        pruning="median",
        device="cpu",
        initial=lambda _: None,
        report=lambda _: None,
    )


def test_the_space_is_read_from_words() -> None:
    words = ("batch_size=16,32", "schedule.warmup=1..5", "optimizer.learning_rate=log:1e-4..0.1")
    assert read_space((*words, "keep=last,best")) == {
        "batch_size": OneOf(("16", "32")),
        "schedule.warmup": Between(1, 5, log=False, whole=True),
        "optimizer.learning_rate": Between(1e-4, 0.1, log=True, whole=False),
        "keep": OneOf(('"last"', '"best"')),
    }


@pytest.mark.parametrize("text", ["a", "a=1", "a=2..1", "a=log:0..1", "a=x..y", "=1,2"])
def test_words_that_vary_nothing_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--vary {text}"):
        read_space([text])


@pytest.mark.usefixtures("by_rate")
def test_a_search_goes_on_and_ends_early_what_falls_behind(tiny: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "search"
    first = searched(tiny, folder, FREE_TRIALS)
    assert {one.state for one in first} == {"complete"}
    found = searched(tiny, folder, 12)
    assert len(found) == 12
    rates = [one.values["optimizer.learning_rate"] for one in found]
    assert len(set(rates)) == 12  # it does not draw again what it drew
    assert found[0].loss == min(rates)
    pruned = [one for one in found if one.state == "pruned"]
    assert pruned
    assert all(one.looks < 4 and not (folder / one.folder).exists() for one in pruned)
    best = json.loads((folder / "best.json").read_text())
    assert best["optimizer"]["learning_rate"] == min(rates)
    assert searched(tiny, folder, 12) == found
    with pytest.raises(ConfigError, match="holds a search of another recipe"):
        searched(tiny, folder, 12, usual_space(tiny))


def test_what_is_stopped_within_a_trial_goes_on_there(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, advance = tmp_path / "search", Log.advance

    def and_stop(log: Log, step: int) -> None:
        advance(log, step)
        if step == 3:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Log, "advance", and_stop)
        with pytest.raises(loop.Stopped):
            searched(tiny, folder, 1)
    (best, stopped) = searched(tiny, folder, 1)
    assert (best.state, stopped.state) == ("complete", "fail")
    assert (best.folder, best.values, best.looks) == (stopped.folder, stopped.values, 4)


def test_a_trial_whose_process_is_gone_is_begun_again(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()

    class Killed(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(search, "train", killed)
        patch.setattr("optuna.Study.tell", killed)
        patch.setattr("os.getpid", lambda: gone.pid)
        with pytest.raises(Killed):
            searched(tiny, tmp_path / "search", 1)
    found = searched(tiny, tmp_path / "search", 1)
    assert [one.state for one in found] == ["complete", "fail"]
    assert found[0].values == found[1].values


def test_a_trial_that_diverges_has_lost(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverging(*_: Any, **__: Any) -> None:
        raise Diverged("the loss is nan")

    monkeypatch.setattr(search, "train", diverging)
    found = searched(tiny, tmp_path / "search", 2)
    assert [one.state for one in found] == ["pruned", "pruned"]


def test_the_command_tells_the_best(
    tiny: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "tiny.json", tmp_path / "search"
    file.write_text(tiny.model_dump_json(), encoding="utf-8")
    command = ["search", "--recipe", str(file), "--device", "cpu", "--quiet", "--output", str(out)]
    assert main([*command, "--trials", "0", "--vary", "optimizer.kind=adamw,sgd"]) == 1
    assert "none of 0 trials came to its end" in capsys.readouterr().err
    assert main([*command, "--trials", "2", "--vary", "optimizer.kind=adamw,sgd"]) == 0
    told = capsys.readouterr().out
    assert "the best of 2 is" in told
    with (out / "search.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["state"] for row in rows] == ["complete"] * 2
    assert {row["optimizer.kind"] for row in rows} <= {'"adamw"', '"sgd"'}
    assert main(["train", "--recipe", str(out / "best.json"), "--show"]) == 0

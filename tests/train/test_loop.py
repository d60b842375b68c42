import csv
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from itertools import islice
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from gsop.__main__ import main
from gsop.errors import ConfigError, SetupError
from gsop.model.config import GSoPResNetConfig
from gsop.model.resnet import GSoPResNet
from gsop.train.checkpoint import write_whole
from gsop.train.data.loader import Part, loader
from gsop.train.data.spec import BalanceSpec, DataSpec
from gsop.train.loop import Stopped, train
from gsop.train.recipe import OptimizerSpec, Recipe, Schedule
from gsop.train.run import Run
from tests.support import ROOT, START_SECONDS, eventually
from tests.train.conftest import FORKSERVER, changed, make_folder

Change = Callable[..., Recipe]


def steps(recipe: Recipe, number: int, **fields: object) -> Recipe:
    schedule = Schedule(steps=number, warmup=min(3, number - 1), validate_every=0)
    return changed(recipe, schedule=schedule, **fields)


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def arguments(recipe: Recipe, run: Path) -> list[str]:
    """Of ``gsop train`` with this recipe."""
    file = run.parent / f"{run.name}.json"
    file.write_text(recipe.model_dump_json(), encoding="utf-8")
    return ["train", "--recipe", str(file), "--output", str(run), "--device", "cpu", "--quiet"]


@contextmanager
def training(recipe: Recipe, run: Path) -> Iterator[BaseProcess]:
    """``gsop train`` in a process of its own, killed at the end if it still runs.

    What it prints is in ``RUN.out``.
    """
    out = run.parent / f"{run.name}.out"
    process = FORKSERVER.Process(target=in_process, args=(arguments(recipe, run), out))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def in_process(command: Sequence[str], out: Path) -> None:
    torch.set_num_threads(1)  # as in the tests' own process: bits depend on it
    with out.open("w", encoding="utf-8") as stream, redirect_stdout(stream):
        status = main(command)
    sys.exit(status)


def test_a_run_learns_and_leaves_all_behind(recipe: Recipe, tmp_path: Path) -> None:
    recipe = changed(recipe, schedule=Schedule(steps=40, warmup=3, validate_every=15))
    result = train(recipe, tmp_path / "run", device="cpu", progress=False)
    assert result.top1 == 1.0
    assert (result.steps, result.images, result.held_out) == (40, 640, 24)
    assert 0 < result.waiting < 1
    run = Run(tmp_path / "run")
    assert run.result == result
    assert run.recipe == recipe
    assert run.data.labels == ("dark", "light")
    assert not run.load_model().training
    for name in ("curves.png", "gates.png"):
        with Image.open(run.folder / name) as picture:
            assert picture.width > 500
    log = rows(run.folder)
    assert [int(row["step"]) for row in log] == [5, 10, 15, 20, 25, 30, 35, 40]
    assert float(log[-1]["loss"]) < float(log[0]["loss"]) / 2
    for column in ("held_out_top1", "held_out_loss"):
        assert [row["step"] for row in log if row[column]] == ["15", "30", "40"]
    for column in ("plain_top1", "plain_loss"):  # seldomer: it must cost little
        assert [row["step"] for row in log if row[column]] == ["30", "40"]
    gate = [float(row["layer4.1.channel.mean"]) for row in log]
    assert all(0 < mean < 1 for mean in gate)
    assert len(set(gate)) > 1
    assert list((run.folder / "tensorboard").iterdir())


def test_the_seed_alone_decides(recipe: Recipe, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    for name, seed, workers in (("a", 1, 0), ("b", 1, 2), ("c", 2, 0)):
        train(
            steps(recipe, 4, seed=seed, workers=workers),
            tmp_path / name,
            device="cpu",
            progress=False,
        )
        torch.rand(1)
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")
    torch.random.set_rng_state(state)


def test_training_leaves_the_global_generator_alone(recipe: Recipe, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    train(steps(recipe, 2), tmp_path / "run", device="cpu", progress=False)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.slow
def test_what_was_killed_ends_in_the_same_weights(recipe: Recipe, tmp_path: Path) -> None:
    recipe = steps(recipe, 40, checkpoint_every=5, log_every=1)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(recipe, whole, device="cpu", progress=False)
    with training(recipe, killed) as process:
        # An epoch is 6 steps, so from 13 the run is inside of its third one.
        eventually(lambda: (killed / "log.csv").exists() and len(rows(killed)) >= 14, 120)
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (killed / "result.json").exists()
    assert len(rows(killed)) < 40
    # From here in one process with the whole run, as threads and libraries must be the same.
    result = train(Run(killed).recipe, killed, resume=True, device="cpu", progress=False)
    assert weights(killed) == weights(whole)
    assert [(r["step"], r["loss"]) for r in rows(killed)] == [
        (r["step"], r["loss"]) for r in rows(whole)
    ]
    assert result.top1 == Run(whole).result.top1


@pytest.mark.slow
def test_two_processes_learn_as_one_with_the_whole_batch(
    recipe: Recipe, skewed: Path, tmp_path: Path
) -> None:
    config = GSoPResNetConfig(
        depth=18,
        stem="cifar",
        base_width=4,
        reduced_dim=4,
        attention="fusion_avg",
        num_classes=2,
        last_stride=2,
    )
    recipe = steps(
        recipe,
        12,
        config=config,
        log_every=1,
        ema_decay=0.0,
        data=DataSpec(kind="folder", path=skewed, validation=0.2),
        balance=BalanceSpec(draw=0.5, loss=1),
    )
    one, two = tmp_path / "one", tmp_path / "two"
    train(recipe, one, device="cpu", progress=False)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [sys.executable, *torchrun, "-m", "gsop", *arguments(recipe, two)],
        cwd=ROOT,
        env=environment,
        check=True,
        timeout=START_SECONDS,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.stdout.count("publish it with") == 1
    for column in ("loss", "layer4.1.channel.mean"):
        curves = [[float(row[column]) for row in rows(run)] for run in (one, two)]
        assert len(curves[0]) == 12
        tolerance = 1e-4 if column == "loss" else 0.2  # the gates are of half of the images
        assert curves[1] == pytest.approx(curves[0], abs=tolerance)
    assert Run(two).result.processes == 2
    assert Run(two).result.held_out == 24


@pytest.mark.slow
def test_sigterm_saves_and_stops(recipe: Recipe, tmp_path: Path) -> None:
    recipe = steps(recipe, 2000, checkpoint_every=1000, log_every=1)
    run = tmp_path / "run"
    with training(recipe, run) as process:
        eventually(lambda: (run / "log.csv").exists() and len(rows(run)) >= 2, 120)
        process.terminate()
        process.join(60)
    assert process.exitcode == 128 + signal.SIGTERM
    out = (tmp_path / "run.out").read_text(encoding="utf-8")
    match = re.search(r"SIGTERM: stopped after step (\d+); go on with `gsop train --resume", out)
    assert match is not None
    newest = max((run / "checkpoints").iterdir())
    assert newest.name == f"step-{int(match[1]):09}.pt"


def test_a_signal_that_ends_the_loading_processes_too_loses_nothing(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = steps(recipe, 9, accumulate=2)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(recipe, whole, device="cpu", progress=False)

    def dying(*args: Any, **options: Any) -> Iterator[Part]:
        yield from islice(loader(*args, **options), 2 * 7 + 1)  # to the middle of step 8
        signal.raise_signal(signal.SIGINT)
        raise RuntimeError("DataLoader worker exited unexpectedly")

    with monkeypatch.context() as patch:
        patch.setattr("gsop.train.loop.loader", dying)
        with pytest.raises(Stopped) as caught:
            train(recipe, stopped, device="cpu", progress=False)
    assert (caught.value.signal, caught.value.step) == (signal.SIGINT, 7)
    train(recipe, stopped, resume=True, device="cpu", progress=False)
    assert weights(stopped) == weights(whole)


def test_accumulated_parts_are_one_step(recipe: Recipe, tmp_path: Path) -> None:
    result = train(steps(recipe, 4, accumulate=4), tmp_path / "run", device="cpu", progress=False)
    assert (result.steps, result.images) == (4, 64)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch_size": 97}, "more than the 96 images"),
        ({"batch_size": 15, "accumulate": 2}, "a multiple of 2"),
    ],
)
def test_a_recipe_that_cannot_be_followed_leaves_no_run(
    recipe: Recipe, tmp_path: Path, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(steps(recipe, 2, **fields), tmp_path / "run", device="cpu", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_not_trained_again(recipe: Recipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = train(steps(recipe, 2), run, device="cpu", progress=False)
    assert train(steps(recipe, 2), run, resume=True, device="cpu", progress=False) == first
    with pytest.raises(ConfigError, match="holds a run already"):
        train(steps(recipe, 2), run, device="cpu", progress=False)


def test_a_run_does_not_go_on_with_other_images(recipe: Recipe, tmp_path: Path) -> None:
    data = make_folder(tmp_path / "images", images=20)
    spec = DataSpec(kind="folder", path=data)
    recipe = steps(recipe, 2, data=spec)
    train(recipe, tmp_path / "run", device="cpu", progress=False)
    (tmp_path / "run" / "result.json").unlink()
    Image.new("RGB", (24, 24)).save(data / "dark" / "new.png")
    with pytest.raises(ConfigError, match="no longer those"):
        train(recipe, tmp_path / "run", resume=True, device="cpu", progress=False)


def test_a_broken_image_is_named_and_skipped_and_too_many_stop(
    recipe: Recipe, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = make_folder(tmp_path / "images", images=40)
    recipe = steps(recipe, 10, data=DataSpec(kind="folder", path=data))
    for file in (data / "dark").iterdir():
        file.write_bytes(file.read_bytes()[:60])
        break
    result = train(changed(recipe, max_broken=0.02), tmp_path / "one", device="cpu", progress=False)
    named = [name for name in result.broken if name in capfd.readouterr().err]
    assert len(named) <= 1  # it may be among the held-out ones
    for file in (data / "dark").iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(SetupError, match=r"images cannot be read, more than max_broken.*dark"):
        train(recipe, tmp_path / "many", device="cpu", progress=False)


def test_a_disk_that_takes_no_checkpoint_does_not_end_the_run(
    recipe: Recipe, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "checkpoints").write_text("a file where the folder should be")
    train(steps(recipe, 5, checkpoint_every=4), run, device="cpu", progress=False)
    assert "the checkpoint after step 4 was not written" in capfd.readouterr().err
    assert weights(run)


def test_a_disk_that_takes_no_weights_says_where_the_run_can_go_on(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, run, whole = steps(recipe, 5, checkpoint_every=4), tmp_path / "run", tmp_path / "whole"

    def full(file: Path, data: bytes | memoryview) -> None:
        if file.name in ("step-000000005.pt", "model.safetensors"):
            raise OSError(errno.ENOSPC, "No space left on device")
        write_whole(file, data)

    with monkeypatch.context() as patch:
        patch.setattr("gsop.train.checkpoint.write_whole", full)
        patch.setattr("gsop.train.run.write_whole", full)
        with pytest.raises(SetupError, match=r"make room, then .*--resume .*after step 4 of 5"):
            train(recipe, run, device="cpu", progress=False)
    train(recipe, run, resume=True, device="cpu", progress=False)
    train(recipe, whole, device="cpu", progress=False)
    assert weights(run) == weights(whole)


def test_a_training_that_diverges_says_what_to_do(recipe: Recipe, tmp_path: Path) -> None:
    wild = steps(recipe, 30, optimizer=OptimizerSpec(learning_rate=1e30, weight_decay=0))
    with pytest.raises(SetupError, match=r"the loss is \w+ at step \d+: lower the learning rate"):
        train(wild, tmp_path / "run", device="cpu", progress=False)


def test_a_backbone_must_come_with_its_weights(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="starts from 'torchvision', which was not loaded"):
        train(
            steps(recipe, 2, backbone="torchvision"), tmp_path / "a", device="cpu", progress=False
        )


def test_a_run_starts_from_the_weights_that_it_is_given(recipe: Recipe, tmp_path: Path) -> None:
    torch.manual_seed(5)
    initial = GSoPResNet(recipe.config)
    before = {key: value.clone() for key, value in initial.state_dict().items()}
    frozen = changed(
        steps(recipe, 1, backbone="some.pth", ema_decay=0.0),
        optimizer=OptimizerSpec(learning_rate=1e-12, weight_decay=0),
    )
    train(frozen, tmp_path / "run", initial=initial, device="cpu", progress=False)
    after = Run(tmp_path / "run").load_model().state_dict()
    assert torch.allclose(after["head.fc.weight"], before["head.fc.weight"])


def test_progress_is_drawn_only_if_wanted(
    recipe: Recipe, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(steps(recipe, 2), tmp_path / "a", device="cpu", progress=False)
    assert capfd.readouterr() == ("", "")
    train(steps(recipe, 2), tmp_path / "b", device="cpu", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    for text in ("toy", "2/2", "images/s", "% waiting, left"):
        assert text in err


def test_a_folder_that_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no run's folder: it has no recipe.json"):
        Run(tmp_path)


def test_a_folder_whose_name_is_no_utf8_is_named(recipe: Recipe, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(ConfigError, match=r"caf\\xe9, is no UTF-8"):
        train(steps(recipe, 1), odd, device="cpu", progress=False)
    assert not odd.exists()


def test_the_log_is_cut_where_the_checkpoint_ends(recipe: Recipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(steps(recipe, 12, log_every=1), run, device="cpu", progress=False)
    (run / "result.json").unlink()
    shutil.copy(run / "log.csv", tmp_path / "before.csv")
    with (run / "log.csv").open("a") as stream:
        stream.write("13,2,208,1,0.1")  # the half of a row, as a kill leaves it
    train(Run(run).recipe, run, resume=True, device="cpu", progress=False)
    assert (run / "log.csv").read_text() == (tmp_path / "before.csv").read_text()
    assert json.loads((run / "result.json").read_text())["steps"] == 12


def test_loaders_that_hand_nothing_over_end_the_run_with_a_checkpoint_and_a_remedy(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = loader

    def failing(*arguments: Any, **options: Any) -> Iterator[Part]:
        yield from islice(parts(*arguments, **options), 3)
        raise RuntimeError("DataLoader timed out after 300 seconds")

    with monkeypatch.context() as patch:
        patch.setattr("gsop.train.loop.loader", failing)
        with pytest.raises(SetupError, match=r"timed out.*--shm-size.*--workers 0.*after step 3"):
            train(steps(recipe, 5), tmp_path / "run", device="cpu", progress=False)
    result = train(steps(recipe, 5), tmp_path / "run", resume=True, device="cpu", progress=False)
    assert result.steps == 5


class NoRoom:
    """A loader on a machine without shared memory for so much as its locks."""

    def __iter__(self) -> Iterator[Part]:
        raise OSError(28, "No space left on device")


def test_loaders_that_cannot_begin_end_the_run_with_the_remedy(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsop.train.loop.loader", lambda *_, **__: NoRoom())
    with pytest.raises(SetupError, match=r"No space left.*--shm-size.*--workers 0"):
        train(steps(recipe, 1), tmp_path / "run", device="cpu", progress=False)

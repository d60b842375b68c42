"""What is said of a GPU: that there is none, that all is well, and each thing that is not."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import bodies, serve
from benchmarks.gpu import right, running, served, speed
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.rows import Report
from benchmarks.gpu.served import engine_of, kills
from benchmarks.serve import Round
from benchmarks.servers import Kind, Server, ours
from gsop.backends.base import Backend, Pixels, Place, Values
from gsop.backends.null import NullBackend
from gsop.store.manifest import read_manifest
from tests.stores import publish_tiny
from tests.support import eventually

BODY = bodies.jpeg("small")


def test_without_a_gpu_it_refuses_and_says_why(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main([]) == 2
    assert "no GPU is here that torch can use: " in capsys.readouterr().err


@pytest.mark.slow
def test_the_script_works_without_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", "cpu", "--short", "--ways", "positions=sliced"]) == 0
    told = capsys.readouterr().out
    assert "measured on: no GPU" in told
    assert "cpu: answers that another image has, too: 0" in told
    assert "cpu: gsop_engine_info: cpu in float32" in told
    assert "FAIL" not in told


def test_a_row_that_fails_is_told() -> None:
    report = Report()
    report.tell("figure", 3)
    report.at_most("errors", 0, 0)
    report.at_least("share", 0.91, 0.9)
    assert not report.failed
    report.at_least("share", 0.89, 0.9)
    report.at_most("off", float("nan"), 1)
    assert [row.what for row in report.failed] == ["share", "off"]
    assert report.table().count("FAIL") == 2


def answer(gates: Sequence[float], best: int = 0) -> dict[str, Any]:
    return {"predictions": [{"class_id": best}], "attention": [{"gate": list(gates)}]}


def test_an_answer_that_another_image_has_is_found() -> None:
    expected = [answer([0.1, n / 10]) for n in range(4)]
    assert right.repeated(expected, expected) == 0
    stale = [*expected[:3], expected[2]]
    assert right.repeated(stale, expected) == 1


def test_answers_of_a_served_device_are_held_against_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exact = [answer([0.5, n / 30_000], n % 10) for n in range(300)]
    rounded = [answer([0.5, n / 30_000 + 0.001], n % 10) for n in range(300)]
    far = [answer([0.5, n / 30_000 + 0.03], n % 10) for n in range(300)]
    wrong = [answer([0.5, n / 30_000], 9 - n % 10) for n in range(300)]
    another = [*rounded[:10], rounded[0], *rounded[11:]]  # an earlier image's, of the same class

    def failures(found: list[dict[str, Any]]) -> list[str]:
        given = iter((exact, found))
        monkeypatch.setattr(right, "served", lambda images, **settings: next(given))
        report = Report()
        right.check_served(report, "cuda", 300)
        return [row.what for row in report.failed]

    assert failures(rounded) == []
    for confused in ([*rounded[1:], rounded[0]], wrong):
        assert "cuda: images with the CPU's best class" in failures(confused)
    assert failures(far) == ["cuda: gates off the CPU's float32"]
    assert failures(another) == ["cuda: answers that another image has, too"]


class Late(NullBackend):
    """With two batches in flight it answers the second like the first: a buffer too few."""

    depth = 2

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._one = np.zeros((self.max_batch, self.manifest.answer.width), np.float32)

    def submit(self, images: Sequence[Pixels]) -> int:
        self._one[: len(images), 0] = [float(image.mean()) for image in images]
        return len(images)

    def result(self, pending: int) -> Values:
        return self._one[:pending]


def test_a_batch_that_overwrites_another_is_found(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_store / "tiny" / "1"

    def opened(*_: Any) -> Backend[Any]:
        return Late.open(folder, read_manifest(folder), Place(max_batch=8))

    monkeypatch.setattr(right, "opened", opened)
    report = Report()
    right.check_graphs(report, folder, "cpu", 8)
    assert report.failed


def test_a_way_that_answers_otherwise_is_found(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_store / "tiny" / "1"
    plain = speed.warm(folder, "cpu", 2)
    wrong = speed.warm(folder, "cpu", 2)
    monkeypatch.setattr(wrong, "result", lambda pending: plain.result(pending) + 0.2)
    monkeypatch.setattr(speed, "warm", lambda *arguments: wrong if arguments[3:] else plain)
    report = Report()
    assert speed.ways(report, folder, "cpu", 2, ["positions=sliced"]) == ""
    assert [row.found for row in report.failed] == ["0.2"]


CONNECTIONS = (64, 256, 512)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Kind, dict[str, Any]]]:
    """What ``serve.measure`` was asked for; of 512 connections one meets an error."""
    asked: list[tuple[Kind, dict[str, Any]]] = []

    def measure(kind: Kind, *_: Any, **load: Any) -> Round:
        asked.append((kind, load))
        errors = int(load["connections"] == max(CONNECTIONS))
        return Round(900.0, 1.0, 1.0, 1.0, 1.0, 1.0, None, errors, 1.0)

    monkeypatch.setattr(serve, "measure", measure)
    monkeypatch.setattr(served, "memory_mib", lambda: None)
    return asked


def test_what_is_served_has_a_slot_a_connection_and_threads_that_ask(
    loads: list[tuple[Kind, dict[str, Any]]], tmp_path: Path
) -> None:
    """Fronts share the slots evenly, and connections come to them unevenly."""
    report = Report()
    served.throughput(
        report, tmp_path, "m", BODY, CONNECTIONS, seconds=1, fastest=1000, device="cpu"
    )
    assert [load["connections"] for _, load in loads] == [*CONNECTIONS]
    for kind, load in loads:
        assert int(kind.environment["GSOP_SLOTS"]) >= 2 * load["connections"]
        assert load["threads"] == 4
    assert [row.what for row in report.failed] == ["errors, 512 connections"]
    assert "served as a share of raw" in {row.what for row in report.rows if row.passed}


def test_raw_and_served_are_of_one_size_of_batch(
    loads: list[tuple[Kind, dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The share of a rate at batches of 256 would not be that of a service with 64."""
    rates = {1: 1e9, 8: 1e9, 32: 1000.0, 256: 1e9}
    timed: list[tuple[Sequence[int], int]] = []

    def raw(
        report: Report, folder: Path, device: str, sizes: Sequence[int], batches: int, options: str
    ) -> dict[int, float]:
        timed.append((sizes, batches))
        return rates

    def nothing(*_: Any, **__: Any) -> str:
        return ""

    for module, name in (
        *((right, name) for name in ("check_served", "check_graphs", "check_training")),
        *((speed, name) for name in ("ways", "gates")),
        (served, "kills"),
    ):
        monkeypatch.setattr(module, name, nothing)
    monkeypatch.setattr(speed, "raw", raw)
    monkeypatch.setattr(speed, "publish_pair", lambda *_: {"gsop": Path()})
    monkeypatch.setattr(running, "check_start", nothing)
    monkeypatch.setattr("benchmarks.models.publish_models", nothing)
    monkeypatch.setattr("benchmarks.gpu.__main__.shutil.which", lambda name: name)
    assert main(["--device", "cpu", "--batch", "32"]) == 1  # an error at 512 connections
    assert "pass  served as a share of raw: 0.90" in capsys.readouterr().out
    ((sizes, batches),) = timed
    assert 32 in sizes
    assert batches >= 100
    assert {kind.environment["GSOP_MAX_BATCH"] for kind, _ in loads} == {"32"}


@pytest.mark.slow
def test_a_training_is_stopped_in_the_middle(tmp_path: Path) -> None:
    few = ("--set", "schedule.steps=1000", "--set", "log_every=1", "--device", "cpu")
    run = tmp_path / "run"
    step = right.stopped(run, "train", "--recipe", "digits", *few, "--output", str(run))
    assert 0 < step < 1000
    assert (run / "checkpoints" / f"step-{step:09}.pt").exists()


def test_a_training_that_ended_before_it_was_stopped_is_a_row_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def resumed(*arguments: str) -> None:
        assert arguments[:2] == ("train", "--resume")
        Path(arguments[2]).mkdir(exist_ok=True)
        Path(arguments[2], "result.json").write_text('{"device": "cuda", "top1": 0.95}')

    monkeypatch.setattr(right, "run_gsop", resumed)
    for step, failed in ((57, []), (0, ["training stopped by SIGTERM"])):
        monkeypatch.setattr(right, "stopped", lambda *_, step=step: step)
        report = Report()
        right.check_training(report, "cuda")
        assert [row.what for row in report.failed] == failed


@pytest.mark.slow
def test_an_engine_is_killed_and_nothing_is_lost(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    report = Report()
    kills(report, tmp_path, "tiny", BODY, times=1, device="cpu", fronts="1", torch_threads="1")
    assert not report.failed, report.table()
    with Server(ours(), "tiny", tmp_path, BODY) as server:
        assert eventually(lambda: engine_of(server)) != server.pid

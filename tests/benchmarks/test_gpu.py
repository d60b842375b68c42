"""What is said of a GPU: that there is none, that all is well, and each thing that is not."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import bodies
from benchmarks.gpu import right, speed
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.rows import Report
from benchmarks.gpu.served import engine_of, kills
from benchmarks.servers import Server, ours
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
    assert "answers that another image has, too: 0" in told
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
    exact = [answer([0.5, n / 300], n % 10) for n in range(300)]
    rounded = [answer([0.5, n / 300 + 0.001], n % 10) for n in range(300)]
    wrong = [answer([0.5, n / 300], 9 - n % 10) for n in range(300)]

    def failures(found: list[dict[str, Any]]) -> int:
        given = iter((exact, found))
        monkeypatch.setattr(right, "served", lambda images, **settings: next(given))
        report = Report()
        right.check_served(report, "cuda", 300)
        return len(report.failed)

    assert failures(rounded) == 0
    assert failures([*rounded[1:], rounded[0]]) > 0
    assert failures(wrong) > 0


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


@pytest.mark.slow
def test_an_engine_is_killed_and_nothing_is_lost(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    report = Report()
    kills(report, tmp_path, "tiny", BODY, times=1, device="cpu", fronts="1", torch_threads="1")
    assert not report.failed, report.table()
    with Server(ours(), "tiny", tmp_path, BODY) as server:
        assert eventually(lambda: engine_of(server)) != server.pid

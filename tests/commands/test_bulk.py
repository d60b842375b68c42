"""Answers to many files: whole parts, gone on with after any death, and the right ones."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.compute
import pyarrow.dataset
import pytest

from gsop.__main__ import main
from gsop.commands import shards
from tests.support import ROOT, eventually, random_pngs

pytestmark = pytest.mark.slow

FILES = 10
PART = 4


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, image in enumerate(random_pngs(FILES)):
        (folder / f"{number:02}.png").write_bytes(image)
    (folder / "05.png").write_bytes(b"no image")
    return folder


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "PART_FILES", PART)


def predict(store: Path, *arguments: object) -> int:
    common = ["--model-store", str(store), "--model", "tiny", "--device", "cpu", "--quiet"]
    return main(["predict", *common, *map(str, arguments)])


def read(folder: Path) -> pyarrow.Table:
    return pyarrow.dataset.dataset(folder).to_table()


def test_a_folder_holds_what_an_npz_holds_and_more(
    tiny_store: Path, images: Path, tmp_path: Path
) -> None:
    out, npz = tmp_path / "gates", tmp_path / "gates.npz"
    assert predict(tiny_store, images, "--attention", out) == 1, "one file is broken"
    predict(tiny_store, images, "--attention", npz, "--output", tmp_path / "lines.jsonl")

    table = read(out)
    assert [Path(file).name for file in table["file"].to_pylist()] == [
        f"{number:02}.png" for number in range(FILES)
    ]
    assert table["error"].to_pylist() == [None] * 5 + ["invalid_image"] + [None] * 4
    assert set(table["model"].to_pylist()) == {"tiny"}
    assert set(table["version"].to_pylist()) == {"1"}
    good = table.filter(pyarrow.compute.is_valid(table["class_id"]))
    facts = json.loads(table.schema.metadata[b"gsop"])
    with np.load(npz) as arrays:
        for name in arrays.files:
            if name != "files":
                gates = np.stack(good[name].to_numpy())
                assert facts["shapes"][name] == list(arrays[name].shape[1:])
                # Other files in a batch with it may move a value's last digit.
                alone = arrays[name].reshape(len(gates), -1)
                np.testing.assert_allclose(gates, alone, rtol=0, atol=1e-6)
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    best = [line["predictions"][0] for line in lines if "error" not in line]
    assert good["label"].to_pylist() == [one["label"] for one in best]
    probabilities = np.stack(good["probabilities"].to_numpy())
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(probabilities.max(axis=1), good["probability"].to_numpy())


def test_what_is_missing_is_gone_on_with(
    tiny_store: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gates"
    predict(tiny_store, images, "--attention", out)
    whole = read(out)
    (out / "part-00001.parquet").unlink()
    (out / ".part-00001.parquet.1234.tmp").write_bytes(b"what a killed process left")
    kept = (out / "part-00000.parquet").stat().st_mtime_ns
    capsys.readouterr()

    assert predict(tiny_store, images, "--attention", out) == 1
    assert "6 of 10 files are answered already" in capsys.readouterr().err
    assert (out / "part-00000.parquet").stat().st_mtime_ns == kept
    assert read(out).equals(whole)
    assert sorted(path.name for path in out.iterdir()) == [
        "_answers.json",
        *(f"part-0000{number}.parquet" for number in range(3)),
    ]
    assert predict(tiny_store, images, "--attention", out) == 0, "there is nothing left to do"


def test_a_kill_costs_one_part(tiny_store: Path, images: Path, tmp_path: Path) -> None:
    """A process of its own, killed while it computes, and the same command again."""
    out = tmp_path / "gates"
    for copy in range(60):
        for path in images.glob("0[0-4].png"):
            (images / f"copy-{copy:02}-{path.name}").write_bytes(path.read_bytes())
    (images / "05.png").unlink()
    many = sorted(map(str, images.iterdir()))
    code = (
        f"import sys; from gsop.commands import shards; shards.PART_FILES = {PART};"
        "from gsop.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [
        *(sys.executable, "-c", code, "predict", "--model-store", str(tiny_store)),
        *("--model", "tiny", "--device", "cpu", "--quiet", "--attention", str(out), str(images)),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "app", ROOT)))}
    first = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    eventually(lambda: (out / "part-00001.parquet").exists(), 240)
    first.send_signal(signal.SIGKILL)
    first.wait()
    left = len(list(out.glob("part-*.parquet")))
    assert left < len(many) // PART, "it was killed before its end"

    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
    assert read(out)["file"].to_pylist() == many


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--output", "{tmp}/lines"], "gets the predictions too: leave --output away"),
        (["{images}/00.png"], "holds other answers (another files, names)"),
    ],
)
def test_a_folder_of_other_answers_is_left_alone(
    change: list[str],
    message: str,
    tiny_store: Path,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "gates"
    predict(tiny_store, f"{images}/0[6-9].png", "--attention", out)
    before = sorted(path.stat().st_mtime_ns for path in out.iterdir())
    arguments = [text.format(tmp=tmp_path, images=images) for text in change]
    assert predict(tiny_store, f"{images}/0[6-9].png", *arguments, "--attention", out) == 1
    assert message in capsys.readouterr().err
    assert sorted(path.stat().st_mtime_ns for path in out.iterdir()) == before


def test_a_folder_of_something_else_is_left_alone(
    tiny_store: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(tiny_store, images, "--attention", images) == 1
    assert "holds other files: name a new folder" in capsys.readouterr().err
    assert len(list(images.iterdir())) == FILES

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gsop.__main__ import main
from tests.imagery import encode, heic, picture
from tests.support import ROOT, random_pngs

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine images, one of them broken, in two folders, and a text beside them."""
    (tmp_path / "images" / "deeper").mkdir(parents=True)
    for number, image in enumerate(random_pngs(8)):
        place = "deeper/" if number % 2 else ""
        (tmp_path / "images" / f"{place}{number}.png").write_bytes(image)
    (tmp_path / "images" / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    return tmp_path / "images"


def run(store: Path, *arguments: object) -> int:
    common = ["--model-store", str(store), "--model", "tiny", "--device", "cpu", "--quiet"]
    return main(["predict", *common, *map(str, arguments)])


def test_folders_become_json_lines(
    tiny_store: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_store, folder) == 1, "one file is broken"
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 9
    errors = [line for line in lines if "error" in line]
    assert [(Path(e["file"]).name, e["error"]["code"]) for e in errors] == [
        ("broken.jpg", "invalid_image")
    ]
    for line in lines:
        if line not in errors:
            assert [len(line["predictions"]), *line["predictions"][0]] == [
                *(5, "class_id", "label", "probability")
            ]


def test_order_and_answers_do_not_depend_on_how_files_are_named(
    tiny_store: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answers(*paths: object) -> dict[str, object]:
        assert run(tiny_store, *paths) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return {line["file"]: line["predictions"][0]["class_id"] for line in lines}

    files = sorted(folder.rglob("*.png"))
    assert answers(f"{folder}/**/*.png") == answers(*files)
    assert len(answers(files[0], files[0])) == 1


def test_csv_and_gates(tiny_store: Path, folder: Path, tmp_path: Path) -> None:
    table, gates = tmp_path / "out.csv", tmp_path / "gates.npz"
    status = run(
        tiny_store,
        *(folder, "--format", "csv", "--output", table, "--attention", gates, "--top-k", 2),
    )
    assert status == 1
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 * 2 + 1
    assert {row["rank"] for row in rows} == {"1", "2", ""}
    with np.load(gates) as arrays:
        assert len(arrays["files"]) == 8
        names = [name for name in arrays.files if name != "files"]
        assert [name.split(".")[0] for name in names] == ["layer1", "layer2", "layer3", "layer4"]
        for name in names:
            assert arrays[name].shape[0] == 8
            assert ((arrays[name] > 0) & (arrays[name] < 1)).all()


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["predict", "nowhere/*.png"], "names no image"),
        (["predict", "{store}", "--model", "nobody"], "names no image"),
        (["models", "list", "--model-store", "nowhere"], "nowhere"),
        (["train", "--recipe", "nothing"], "digits"),
        (["predict", "{file}", "--model", "nobody", "--model-store", "{store}"], "nobody"),
        (
            [
                *("predict", "{file}", "--model", "tiny", "--model-store", "{store}"),
                *("--device", "cpu", "--output", "{tmp}/out.csv"),
            ],
            "out.csv cannot be written: No such file or directory",
        ),
    ],
)
def test_mistakes_are_one_line_and_a_remedy(
    arguments: list[str],
    remedy: str,
    tiny_store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "image.png"
    file.write_bytes(random_pngs(1)[0])
    names: Callable[[str], str] = lambda text: text.format(  # noqa: E731
        store=tiny_store, tmp=tmp_path / "new", file=file
    )
    assert main([names(argument) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("gsop: error: ")
    assert remedy in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "{images}", "--attention", "/nowhere/g.npz"],
        ["predict", "{images}", "--attention", "/dev/null/answers"],
        ["inspect", "{images}/0.png", "--output", "/nowhere/report.html"],
        ["attention", "{images}", "--output", "/nowhere/report.html"],
        ["evaluate", "tiny", "--data", "{images}", "--output", "/dev/null/report"],
    ],
    ids=lambda arguments: " ".join(arguments[::2]),
)
def test_what_cannot_be_written_is_refused_before_anything_is_computed(
    tiny_store: Path,
    folder: Path,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def computes(*_: object, **__: object) -> None:
        pytest.fail("it computes")

    for command in ("predict", "attention", "evaluate"):
        monkeypatch.setattr(f"gsop.commands.{command}.open_backend", computes)
    monkeypatch.setattr("gsop.commands.inspect.Inspector.open", computes)
    common = ["--model-store", str(tiny_store), "--quiet"]
    assert main([argument.format(images=folder) for argument in arguments] + common) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{arguments[-1]} cannot be written: name a f" in said.err


def test_a_reader_that_has_had_enough_ends_it_quietly(tiny_store: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "gsop", "predict", "--quiet", "--device", "cpu"]
    command += ["--model-store", str(tiny_store), "--model", "tiny", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 128 + 13


def test_hidden_leftovers_are_no_images_and_odd_names_are_written(
    tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "._1.png").write_bytes(b"Mac OS X")
    for left in (".ipynb_checkpoints", "__MACOSX"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "1.png").write_bytes(random_pngs(1)[0])
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(random_pngs(1)[0])
    assert run(tiny_store, tmp_path) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["file"].endswith("caf\\xe9.png")
    odd = tmp_path / os.fsdecode(b"\xe9t\xe9")
    odd.mkdir()
    (odd / "1.png").write_bytes(random_pngs(1)[0])
    page = tmp_path / "page.html"
    common = ["--model", "tiny", "--model-store", str(tiny_store), "--quiet"]
    assert main(["attention", str(odd), *common, "--output", str(page)]) == 0
    assert "/\\xe9t\\xe9, tiny/1" in page.read_text(encoding="utf-8")


def test_what_phones_save_is_classified(
    tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "IMG_0001.HEIC").write_bytes(heic("turned-6"))
    (tmp_path / "PXL_0002.avif").write_bytes(encode(picture(9, 9), "AVIF"))
    assert run(tiny_store, tmp_path) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(line["predictions"]) for line in lines] == [5, 5]


@pytest.mark.parametrize("arguments", [["serve"], ["predict", "x.png"], ["models", "list"]])
def test_a_store_whose_path_is_no_utf8_is_named(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / os.fsdecode(b"caf\xe9")
    store.mkdir()
    assert main([*arguments, "--model-store", str(store)]) == 1
    assert f"GSOP_MODEL_STORE: {tmp_path}/caf\\xe9 is no UTF-8: rename" in capsys.readouterr().err


def test_models_are_listed(tiny_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--model-store", str(tiny_store)]) == 0
    out = capsys.readouterr().out
    assert "tiny" in out
    assert "GSoP-ResNet-18" in out


def test_both_names_of_the_command_work() -> None:
    installed = Path(sys.executable).parent / "gsop"
    for command in ([str(installed)], [sys.executable, "-m", "gsop"]):
        done = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, check=True, cwd=ROOT
        )
        assert done.stdout.strip()

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsop.gates.answers import AnswerLayout
from gsop.images import Pixels
from gsop.model.config import GSoPResNetConfig, gate_layout
from gsop.train.report.alike import thumbnails
from gsop.train.report.findings import Findings, Others
from gsop.train.report.rates import Paired
from gsop.train.report.written import write_report
from tests.train.report.made import made
from tests.train.report.test_alike import scene

CONFIG = GSoPResNetConfig(
    depth=18, stem="cifar", base_width=4, reduced_dim=4, num_classes=2, attention="fusion_avg"
)
LAYOUT = AnswerLayout(("a", "b"), gate_layout(CONFIG, 32, 32))


def look(name: str) -> Pixels | None:
    if name == "5.png":
        return None
    number = int(name.removeprefix("train/").partition(".")[0])
    return scene(number + 4 if name.startswith("train/") else number % 5)


def findings() -> Findings:
    answers = made(
        [[0.9, 0.1]] * 6 + [[0.2, 0.8]] * 4, [0, 0, 0, 1, 0, 0, 1, 1, 1, 0], gates=LAYOUT.gate_size
    )
    training = [(f"train/{n}.png", 0, scene(n + 4)) for n in range(3)]
    return Findings(
        answers,
        broken=("x.png",),
        about={"model": {"name": "<b>", "version": "1"}, "made": {"command": "gsop evaluate"}},
        little=thumbnails(look(name) for name in answers.names),
        trained_on=Others.of(training),
        beside=("b/2", Paired(both=5, first=3, second=1, neither=1)),
    )


def test_what_is_alike_is_named_with_both_files() -> None:
    found = findings()
    # The names count to 9 and the scenes to 5, and one image is gone.
    assert {(t.first, t.second) for t in found.duplicates} == {
        ("1.png", "6.png"),
        ("2.png", "7.png"),
        ("3.png", "8.png"),
        ("4.png", "9.png"),
    }
    assert {(t.first, t.second) for t in found.leaks} == {
        ("4.png", "train/0.png"),
        ("9.png", "train/0.png"),
    }
    labels = {t.first: t.same_label for t in found.duplicates}
    assert labels == {"1.png": False, "2.png": False, "3.png": True, "4.png": True}


@pytest.mark.parametrize("rows", ["csv", "parquet"])
def test_the_report_is_one_file_beside_its_numbers(rows: str, tmp_path: Path) -> None:
    if rows == "parquet":
        pytest.importorskip("pyarrow")
    found = findings()
    folder = tmp_path / "new" / "report"
    names = write_report(found, folder, layout=LAYOUT, look=look, rows=rows)  # type: ignore[arg-type]  # one of two
    assert {path.name for path in folder.iterdir()} == set(names)
    facts = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert facts["model"] == {"name": "<b>", "version": "1"}
    assert facts["compared"]["with"] == "b/2"
    assert len(facts["leaks"]) == 2
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;: what its answers are worth" in text
    assert "5.png is no longer there" in text
    assert "layer4.1.position of the image, mean 0.50" in text
    for name in ("confusion.png", "reliability.png", "coverage.png"):
        with Image.open(folder / name) as picture:
            assert picture.width > 300
            assert np.asarray(picture).std() > 5


def test_without_gates_and_without_pictures_there_is_still_a_page(tmp_path: Path) -> None:
    layout = AnswerLayout(("a", "b"), ())
    found = Findings(made([[0.9, 0.1]] * 3, [0, 0, 0]))
    write_report(found, tmp_path, layout=layout, look=look, rows="csv")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Nothing is confused." in text
    assert "nobody looked" in text

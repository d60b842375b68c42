"""The set whose flaws are known is made as it says, and findings are held against it."""

import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.flawed import judged, table
from tests.support import ROOT


def test_the_set_has_the_flaws_that_it_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "examples"), *sys.path])
    flaws = runpy.run_path(str(ROOT / "examples" / "make_flawed.py"))["make_flawed"](
        tmp_path, train=8, val=8
    )
    images = {
        part: {f"{f.parent.name}/{f.name}" for f in (tmp_path / part).rglob("*.jpg")}
        for part in ("train", "val")
    }
    assert len(images["train"]) == 8 + 2 + 8 + 4
    assert {len(copies) for copies in (flaws["duplicates"], flaws["leaks"])} == {12}
    for kind, part in (("duplicates", "val"), ("leaks", "train")):
        assert flaws[kind].keys() <= images["val"]
        assert set(flaws[kind].values()) <= images[part]
    assert len(flaws["mislabelled"]) == 2
    for name, right in flaws["mislabelled"].items():
        part, label, file = name.split("/")
        assert f"{label}/{file}" in images[part]
        assert file.startswith(f"moved-{right}-")
        assert label != right
    with Image.open(tmp_path / "val" / next(iter(flaws["leaks"]))) as copy:
        assert copy.format == "JPEG"


def test_findings_are_held_against_what_is_known() -> None:
    flaws = {
        "mislabelled": {"train/b/x.jpg": "a", "val/b/y.jpg": "a", "val/a/z.jpg": "b"},
        "duplicates": {"a/duplicate-00.jpg": "a/1.jpg"},
        "leaks": {"a/leak-00.jpg": "a/2.jpg"},
    }
    reports = {
        "held-out": {
            "suspects": [{"file": "val/b/y.jpg"}, {"file": "val/a/1.jpg"}],
            "duplicates": [{"first": "val/a/1.jpg", "second": "val/a/duplicate-00.jpg"}],
            "leaks": [],
        },
        "training": {"suspects": [{"file": "train/b/x.jpg"}]},
    }
    found = judged(flaws, reports)
    assert found == {
        "labels, held out": {"flaws": 2, "named": 1, "false": 1},
        "labels, training": {"flaws": 1, "named": 1, "false": 0},
        "duplicates": {"flaws": 1, "named": 1, "false": 0},
        "leaks": {"flaws": 1, "named": 0, "false": 0},
    }
    sure = {"error_before": 0.1, "error": 0.02}
    told = table(found | {"top1": 0.5, "calibration": sure})
    assert "| labels, held out | 2 | 1 | 1 |" in told
    assert "calibration error 10.00%, with the temperature 2.00%" in told

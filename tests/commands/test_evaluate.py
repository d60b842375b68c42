"""What ``gsop evaluate`` finds across the parts of a folder, and shows."""

import json
from pathlib import Path

import pytest

from gsop.__main__ import main
from tests.stores import publish_tiny
from tests.support import random_pngs


@pytest.mark.parametrize("parts", [("train", "val"), ("Training", "Test")])
def test_an_image_of_the_training_is_found_in_the_evaluation_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], parts: tuple[str, str]
) -> None:
    publish_tiny(tmp_path / "store")
    images = random_pngs(5, size=40)
    for part, of_part in zip(parts, (images[:4], images[3:]), strict=True):
        folder = tmp_path / "data" / part / "class 0"
        folder.mkdir(parents=True)
        for number, data in enumerate(of_part):
            (folder / f"{number}.png").write_bytes(data)
    output = tmp_path / "report"
    command = ["evaluate", "tiny", "--model-store", str(tmp_path / "store"), "--device", "cpu"]
    images_of = ["--data", str(tmp_path / "data"), "--output", str(output), "--quiet"]
    assert main([*command, *images_of]) == 0
    assert "like one of the training  1" in capsys.readouterr().out
    (leak,) = json.loads((output / "report.json").read_text())["leaks"]
    assert (leak["first"], leak["second"]) == ("class 0/0.png", "train/class 0/3.png")
    page = (output / "report.html").read_text(encoding="utf-8")
    assert 'alt="train/class 0/3.png"' in page

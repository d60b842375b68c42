"""``gsop attention``: the same whether asked of images or of answers, by class and by folder."""

from pathlib import Path

import pytest

from gsop.__main__ import main
from gsop.commands import shards
from gsop.model.config import GSoPResNetConfig
from tests.inspection.test_report import Seen
from tests.stores import publish_tiny
from tests.support import ROOT, random_pngs

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples"


def attention(store: Path, *arguments: object) -> int:
    return main(
        [
            "attention",
            *map(str, arguments),
            "--model-store",
            str(store),
            "--device",
            "cpu",
            "--quiet",
        ]
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions with both kinds of gates, and one with gates of channels alone."""
    root = tmp_path_factory.mktemp("store")
    both = GSoPResNetConfig(
        depth=18, stem="cifar", base_width=8, reduced_dim=8, num_classes=10, attention="fusion_avg"
    )
    for version in ("1", "2"):
        publish_tiny(root, name="both", version=version, seed=int(version), config=both)
    publish_tiny(root)
    return root


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number, image in enumerate(random_pngs(8)):
        folder = tmp_path / "images" / ("even", "odd")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(image)
    return tmp_path / "images"


def test_classes_of_the_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.html"
    assert attention(ROOT / "model_store", EXAMPLES / "digits", "--output", report) == 0
    out = capsys.readouterr().out
    assert "20 images" in out
    assert "layer4.1.channel" in out
    text = report.read_text(encoding="utf-8")
    seen = Seen(text)
    assert seen.silent == 0
    assert all(source.startswith("data:") for source in seen.sources)
    # Two of each of four gates; the input and its four gates for each of ten classes.
    assert len(seen.sources) == 4 * 2 + 10 * 5
    assert "<td>7</td><td>2</td>" in text, "two images are taken for a seven"


def test_folders_against_another_version(
    store: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.html"
    options = ("--model", "both/1", "--by", "folder", "--scale", "half", "--output", report)
    assert attention(store, images, "--against", "both/2", *options) == 0
    assert "against" in capsys.readouterr().out
    text = report.read_text(encoding="utf-8")
    assert "<td>even</td><td>4</td>" in text
    assert "Mean in odd." in text, "maps of positions"
    assert "layer1.1.position laid over it." in text
    assert "Colours run from 0.4 (dark) to 0.6 (light)" in text


def test_answers_that_are_kept_say_the_same(
    store: Path,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shards, "PART_FILES", 3)
    kept = tmp_path / "gates"
    predict = ["predict", str(images), "--model", "both/1", "--model-store", str(store)]
    assert main([*predict, "--attention", str(kept), "--device", "cpu", "--quiet"]) == 0
    capsys.readouterr()

    assert attention(store, images, "--model", "both/1") == 0
    asked = capsys.readouterr().out.splitlines()
    assert attention(store, kept) == 0
    read = capsys.readouterr().out.splitlines()
    assert read[1:] == asked[1:], "all but the name of the set"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--against", "tiny"), "have other gates: only versions of one network"),
        (("--against", "nobody/3"), "holds no nobody/3"),
        (("--output", "nowhere/report.html"), "report.html cannot be written"),
    ],
)
def test_what_cannot_be_compared(
    arguments: tuple[str, ...],
    message: str,
    store: Path,
    images: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert attention(store, images, "--model", "both/1", *arguments) == 1
    assert message in capsys.readouterr().err

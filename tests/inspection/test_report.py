"""A report opens anywhere, and holds what was found; the numbers come back from an npz."""

import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsop.__main__ import main
from gsop.gates import plates
from gsop.reports import Page, Picture, Share
from tests.support import ROOT

SEVEN, THREE = ROOT / "examples/digits/7.png", ROOT / "examples/drawn/3.png"


def inspect(output: Path, *arguments: str) -> int:
    options = ["--model-store", str(ROOT / "model_store"), "--model", "digits", "--quiet"]
    common = [*options, "--torch-threads", "1", "--output", str(output)]
    return main(["inspect", str(SEVEN), *common, *arguments])


class Seen(HTMLParser):
    """What a page asks for, and how much it tells to those who see no picture."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: set[str] = set()
        self.silent = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        self.sources += [v for k, v in attrs if k in ("src", "href") and v is not None]
        self.silent += tag == "img" and not found.get("alt")


def test_a_report_is_one_file_that_asks_for_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.html"
    assert inspect(file, "--other", str(THREE), "--gates", "layer4.1.channel") == 0
    assert f"7 (0.9963); wrote {file}" in capsys.readouterr().out

    text = file.read_text(encoding="utf-8")
    seen = Seen(text)
    assert seen.silent == 0
    assert "script" not in seen.tags
    assert all(source.startswith("data:image/png;base64,") for source in seen.sources)
    # The input, the effects, and of four gates: three scales, features, matrix, spectrum.
    assert len(seen.sources) == 2 + 4 * 6
    for way in ("open", "closed", "mean", "other"):
        assert f"<td>all</td><td>{way}</td>" in text
    assert "<td>79</td>" in text, "the channel that matters most"


def test_the_numbers_come_back_from_an_npz(tmp_path: Path) -> None:
    file = tmp_path / "numbers.npz"
    assert inspect(file, "--gates", "layer4.1.channel") == 0
    with np.load(file) as found:
        gate, logits = (found[f"layer2.1.channel.{part}"] for part in ("gate", "logits"))
        np.testing.assert_allclose(gate, 1 / (1 + np.exp(-logits)))
        assert found["layer2.1.channel.matrix"].shape == (16, 16)
        assert found["channels.layer4.1.channel.logits"].shape == (128,)
        assert str(found["model"]) == "digits/1"
        assert "ablation.all.mean" in found
        assert "ablation.all.other" not in found


@pytest.mark.parametrize(
    ("output", "arguments", "message"),
    [
        ("a.txt", [], "a.txt: name a file that ends in .html (a report) or .npz (numbers)"),
        ("a.npz", ["--gates", "layer9.channel"], "'layer9.channel'; there are: layer1.1.channel"),
        ("a.npz", ["--other", "nothing.png"], "nothing.png cannot be read: No such file"),
        (
            "none/a.npz",
            ["--gates", "layer4.1.channel"],
            "a.npz cannot be written: name a file in a folder",
        ),
    ],
)
def test_what_cannot_be_done_is_said(
    output: str,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert inspect(tmp_path / output, *arguments) == 1
    assert message in capsys.readouterr().err


def test_text_in_a_page_is_text() -> None:
    page = Page("<b>&")
    page.text("<script>")
    page.table(("<i>",), [("<td>",), (Share(0.25),)], '"><u>')
    page.pictures(Picture(b"", '"><script>'))
    text = page.render()
    assert not {"script", "b", "i", "u"} & Seen(text).tags
    assert '<meter value="0.250000"' in text


def decoded(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_the_half_scale_shows_what_the_full_one_does_not() -> None:
    near = np.array([0.49, 0.51])
    full, half = (plates.gate_colours(near, scale).astype(int) for scale in ("full", "half"))
    assert np.abs(half[0] - half[1]).sum() > 4 * np.abs(full[0] - full[1]).sum()
    ends = np.array([0.02, 0.004])
    logit, full = (plates.gate_colours(ends, scale).astype(int) for scale in ("logit", "full"))
    assert np.abs(logit[0] - logit[1]).sum() > np.abs(full[0] - full[1]).sum()


def test_2048_channels_have_a_cell_each() -> None:
    gates = np.linspace(0, 1, 2048)
    picture = decoded(plates.gate_plate(gates, width=640))
    assert picture.shape == (320, 640, 3)
    cells = picture[5::10, 5::10].reshape(-1, 3)
    np.testing.assert_array_equal(cells, plates.gate_colours(gates))


def test_the_last_row_is_filled_up_with_paper() -> None:
    cells = plates.in_rows(np.zeros(5), columns=4)
    assert cells.shape == (2, 4)
    assert np.isnan(cells[1, 1:]).all()


def test_a_map_over_an_image_is_light_where_it_lets_through() -> None:
    pixels = np.full((32, 32, 3), 200, np.uint8)
    gate = np.zeros((4, 4))
    gate[:2] = 1
    picture = decoded(plates.laid_over(pixels, gate, width=32)).sum(axis=2)
    assert picture[:8].min() > picture[-8:].max()


def test_bars_hang_down_below_zero() -> None:
    picture = decoded(plates.bar_plate(np.array([1.0, -1.0]), width=20, height=21))
    blue = np.array([0x21, 0x5F, 0xA8])
    assert (picture[2, 2] == blue).all()
    assert not (picture[18, 2] == blue).all()
    assert picture.shape == (21, 20, 3)

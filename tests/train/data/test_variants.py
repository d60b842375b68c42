from collections import Counter
from io import BytesIO

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from gsop.train.data.dataset import Sample
from gsop.train.data.drawn import CANVAS, HANDS, draw_strokes, draw_type
from gsop.train.data.variants import drawn_digits, redrawn_scans

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def bar() -> Pixels:
    """A thick upright bar in the middle of the scan."""
    scan = np.zeros((8, 8), np.uint8)
    scan[1:7, 3:5] = 255
    return scan


@pytest.fixture(scope="module")
def redrawn(bar: Pixels) -> dict[str, Pixels]:
    return {name: pixels(samples[0]) for name, samples in redrawn_scans([bar], [1]).items()}


def pixels(sample: Sample) -> Pixels:
    with Image.open(BytesIO(sample.image)) as image:
        return np.asarray(image)


def ink_box(image: Pixels) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of what differs from the corner."""
    ink = np.abs(image.astype(int) - int(image[0, 0])) > 127
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def test_every_scan_keeps_its_label_in_every_variant(bar: Pixels) -> None:
    for samples in redrawn_scans([bar, bar, bar], [3, 1, 2]).values():
        assert [sample.label for sample in samples] == [3, 1, 2]


def test_inverted_is_the_scan_with_dark_ink(redrawn: dict[str, Pixels], bar: Pixels) -> None:
    assert np.array_equal(redrawn["inverted"], 255 - bar)


def test_scaled_leaves_so_much_of_the_frame(redrawn: dict[str, Pixels]) -> None:
    for name, scale in (("scaled to 0.8", 0.8), ("scaled to 0.6", 0.6)):
        top, bottom, left, right = ink_box(redrawn[name])
        assert bottom - top == pytest.approx(CANVAS * scale * 6 / 8, rel=0.05)
        assert top + bottom == pytest.approx(CANVAS, abs=4)
        assert left + right == pytest.approx(CANVAS, abs=4)


def test_shifted_lies_elsewhere_for_each_scan(bar: Pixels) -> None:
    boxes = {ink_box(pixels(s)) for s in redrawn_scans([bar] * 8, [1] * 8)["shifted"]}
    assert len(boxes) == 8
    assert len({(bottom - top, right - left) for top, bottom, left, right in boxes}) == 1


def test_canvases_are_black_and_white_and_of_three_widths(redrawn: dict[str, Pixels]) -> None:
    widths = []
    for name in ("canvas, thin", "canvas", "canvas, thick"):
        canvas = redrawn[name]
        assert canvas.shape == (CANVAS, CANVAS)
        assert set(np.unique(canvas)) == {0, 255}
        assert canvas[0, 0] == 255
        _, _, left, right = ink_box(canvas)
        widths.append(right - left)
    assert widths[0] < 0.9 * widths[1]
    assert widths[2] > 1.1 * widths[1]


def test_turned_leans(redrawn: dict[str, Pixels]) -> None:
    _, _, left, right = ink_box(redrawn["canvas"])
    _, _, turned_left, turned_right = ink_box(redrawn["canvas, turned 10 degrees"])
    assert turned_right - turned_left > 1.2 * (right - left)


def test_noise_is_noise_on_the_same_digit(redrawn: dict[str, Pixels]) -> None:
    ground = redrawn["noisy"][:, :16].astype(float)
    assert 5 < ground.std() < 20
    assert redrawn["noisy"][28:36, 30:34].mean() > 200


@pytest.mark.slow
def test_drawn_digits_show_each_class_as_often() -> None:
    for samples in drawn_digits().values():
        counts = Counter(sample.label for sample in samples)
        assert sorted(counts) == list(range(10))
        assert len(set(counts.values())) == 1
        assert len({sample.image for sample in samples}) == len(samples)


@pytest.mark.parametrize("hand", range(len(HANDS)))
@pytest.mark.parametrize("label", range(10))
def test_strokes_have_the_asked_height_and_place(hand: int, label: int) -> None:
    image = draw_strokes(HANDS[hand][label], height=0.6, pen=0.05, centre=(0.45, 0.55))
    top, bottom, left, right = ink_box(np.asarray(image))
    assert bottom - top == pytest.approx(CANVAS * 0.65, rel=0.06)
    assert top + bottom == pytest.approx(CANVAS * 1.1, rel=0.03)
    assert left + right == pytest.approx(CANVAS * 0.9, rel=0.03)


def test_a_wider_pen_and_a_slant() -> None:
    bar = "35,0 35,100"
    widths = {}
    for pen, slant in ((0.05, 0.0), (0.1, 0.0), (0.05, 0.3)):
        canvas = np.asarray(draw_strokes(bar, pen=pen, slant=slant))
        _, _, left, right = ink_box(canvas)
        widths[pen, slant] = right - left
        head, foot = (np.flatnonzero(canvas[row] < 128).mean() for row in (60, 220))
        assert head >= foot, "a positive slant leans to the right"
    assert widths[0.05, 0.0] == pytest.approx(CANVAS * 0.05, abs=2)
    assert widths[0.1, 0.0] == pytest.approx(CANVAS * 0.1, abs=2)
    assert widths[0.05, 0.3] == pytest.approx(CANVAS * (0.05 + 0.7 * 0.3), abs=3)


@pytest.mark.parametrize("text", "0123456789")
def test_type_has_the_asked_height_and_place(text: str) -> None:
    top, bottom, left, right = ink_box(np.asarray(draw_type(text, height=0.5, centre=(0.4, 0.6))))
    assert bottom - top == pytest.approx(CANVAS * 0.5, rel=0.04)
    assert top + bottom == pytest.approx(CANVAS * 1.2, rel=0.03)
    assert left + right == pytest.approx(CANVAS * 0.8, rel=0.06)

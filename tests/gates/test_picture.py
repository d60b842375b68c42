"""The picture of the gates: colours, places, sizes."""

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from gsop.gates.picture import Gate, colour_map, draw_gates
from gsop.model.config import GateKind, GateSpec, GSoPResNetConfig, gate_layout

Pixels = npt.NDArray[np.uint8]

BELOW_HEADER = 180
"""The colour bar, which shows every colour, lies above this row of pixels."""


def gate(values: npt.ArrayLike, kind: GateKind = "channel", block: str = "layer1.0") -> Gate:
    array = np.asarray(values, np.float32)
    return GateSpec(block.split(".")[0], block, kind, array.shape), array


def opened(size: int | tuple[int, int], *places: int | tuple[int, int]) -> npt.NDArray[np.float32]:
    """Closed gates but for those at ``places``."""
    values = np.zeros(size, np.float32)
    for place in places:
        values[place] = 1
    return values


def pixels(picture: bytes) -> Pixels:
    with Image.open(BytesIO(picture)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


def where(picture: Pixels, value: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows and columns, below the header, of the pixels that show ``value``."""
    rows, columns = (picture[BELOW_HEADER:] == colour_map(np.array(value))).all(axis=-1).nonzero()
    return rows + BELOW_HEADER, columns


def place(picture: Pixels) -> tuple[float, float]:
    """Where the centre of the open cell lies in its panel, down and across, from 0 to 1."""
    bright, dark = where(picture, 1), where(picture, 0)
    shares = []
    for lit, unlit in zip(bright, dark, strict=True):
        first, last = min(lit.min(), unlit.min()), max(lit.max(), unlit.max())
        shares.append(((lit.min() + lit.max()) / 2 - first) / (last - first))
    return shares[0], shares[1]


def lightness(colours: Pixels) -> npt.NDArray[np.float64]:
    """CIE 1976 L* of sRGB colours."""
    encoded = colours / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    return np.where(luminance > 216 / 24389, 116 * np.cbrt(luminance) - 16, luminance * 24389 / 27)


class TestColourMap:
    def test_lightness_rises_evenly_from_dark_to_light(self) -> None:
        levels = lightness(colour_map(np.linspace(0, 1, 17)))
        steps = np.diff(levels)
        assert levels[0] < 10
        assert levels[-1] > 90
        assert steps.min() > 0.6 * steps.mean()
        assert steps.max() < 1.4 * steps.mean()

    def test_values_outside_take_the_nearer_end(self) -> None:
        np.testing.assert_array_equal(colour_map(np.array([-1, 2])), colour_map(np.array([0, 1])))

    def test_the_shape_is_kept(self) -> None:
        assert colour_map(np.zeros((2, 5))).shape == (2, 5, 3)


class TestPlaces:
    @pytest.mark.parametrize(
        ("channel", "row", "column"), [(0, 0, 0), (1, 0, 1), (31, 0, 31), (32, 1, 0), (511, 15, 31)]
    )
    def test_channels_run_along_the_rows(self, channel: int, row: int, column: int) -> None:
        picture = pixels(draw_gates([gate(opened(512, channel))], title=""))
        down, across = place(picture)  # 512 channels are 16 rows of 32
        assert down == pytest.approx((row + 0.5) / 16, abs=0.01)
        assert across == pytest.approx((column + 0.5) / 32, abs=0.01)

    @pytest.mark.parametrize("size", [(8, 8), (14, 14), (56, 56), (7, 13), (400, 300)])
    @pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
    def test_a_map_is_neither_turned_nor_mirrored(
        self, size: tuple[int, int], corner: tuple[int, int]
    ) -> None:
        values = np.zeros(size, np.float32)
        half = (slice(0, size[0] // 2), slice(size[0] // 2, None))
        side = (slice(0, size[1] // 2), slice(size[1] // 2, None))
        values[half[corner[0]], side[corner[1]]] = 1
        down, across = place(pixels(draw_gates([gate(values, "position")], title="")))
        assert down == pytest.approx(0.25 + 0.5 * corner[0], abs=0.06)
        assert across == pytest.approx(0.25 + 0.5 * corner[1], abs=0.06)

    def test_a_map_keeps_its_proportions(self) -> None:
        rows, columns = where(
            pixels(draw_gates([gate(np.full((20, 10), 0.5), "position")], title="")), 0.5
        )
        assert np.ptp(rows) == pytest.approx(2 * np.ptp(columns), rel=0.02)

    def test_channels_that_fill_no_row_leave_paper(self) -> None:
        full, partial = (
            pixels(draw_gates([gate(np.full(count, 0.5))], title="")) for count in (12, 11)
        )  # rows of 4
        share = len(where(partial, 0.5)[0]) / len(where(full, 0.5)[0])
        assert share == pytest.approx(11 / 12, abs=0.01)
        assert len(where(partial, 0)[0]) == 0

    def test_gates_stand_in_network_order(self) -> None:
        values = [0.1, 0.3, 0.7, 0.9]
        picture = pixels(draw_gates([gate(np.full(64, v)) for v in values], title=""))
        corners = [tuple(axis.min() // 200 for axis in where(picture, v)) for v in values]
        assert corners == sorted(corners)
        assert len(set(corners)) == 4

    @pytest.mark.parametrize("count", [4, 6, 12, 50, 100])
    def test_many_gates_take_the_shape_of_a_slide(self, count: int) -> None:
        height, width, _ = pixels(draw_gates([gate(np.zeros(64))] * count, title="")).shape
        assert 1.3 < width / height < 2.3

    def test_the_two_gates_of_a_block_stand_side_by_side(self) -> None:
        blocks = np.linspace(0.1, 0.9, 7)
        gates = [
            one
            for value in blocks
            for one in (gate(np.full(64, value)), gate(np.full((8, 8), value + 0.05), "position"))
        ]
        picture = pixels(draw_gates(gates, title=""))
        for value in blocks:
            channel, position = where(picture, value), where(picture, value + 0.05)
            assert channel[0].min() == position[0].min()
            assert channel[1].max() < position[1].min()

    def test_a_flat_map_is_the_same_map(self) -> None:
        spec, values = gate(np.random.default_rng(0).random((8, 8)), "position")
        assert draw_gates([(spec, values.ravel())], title="") == draw_gates(
            [(spec, values)], title=""
        )

    def test_values_of_another_gate_are_refused(self) -> None:
        spec, _ = gate(np.zeros(64))
        with pytest.raises(ValueError, match="reshape"):
            draw_gates([(spec, np.zeros(63, np.float32))], title="")


class TestPicture:
    def test_the_scale_is_fixed(self) -> None:
        narrow = pixels(draw_gates([gate([0.5] * 32 + [0.55] * 32)], title=""))
        wide = pixels(draw_gates([gate([0.5] * 32 + [1.0] * 32)], title=""))
        assert len(where(narrow, 0.5)[0]) == len(where(wide, 0.5)[0]) > 1000

    def test_the_colour_bar_spans_the_scale(self) -> None:
        header = pixels(draw_gates([gate(np.zeros(16))], title=""))[:BELOW_HEADER]
        seen = {tuple(colour) for colour in header.reshape(-1, 3).tolist()}
        every = colour_map(np.linspace(0, 1, 360))  # one column of the bar each
        assert {tuple(colour) for colour in every.tolist()} <= seen

    def test_the_captions_tell_the_gates_apart(self) -> None:
        values = np.linspace(0, 1, 64)
        first = pixels(draw_gates([gate(values, block="layer1.0")], title="same"))
        second = pixels(draw_gates([gate(values, block="layer2.1")], title="same"))
        changed = (first != second).any(axis=-1).nonzero()[0]
        top_of_cells = where(first, 0)[0].min()
        assert len(changed)
        assert changed.min() > BELOW_HEADER - 20
        assert changed.max() < top_of_cells

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            pytest.param((0.1, 0.5, 0.9), (0.1, 0.4, 0.9), id="mean"),
            pytest.param((0.1, 0.5, 0.9), (0.2, 0.4, 0.9), id="min"),
            pytest.param((0.1, 0.5, 0.9), (0.1, 0.6, 0.8), id="max"),
        ],
    )
    def test_each_statistic_is_written(
        self, first: tuple[float, ...], second: tuple[float, ...]
    ) -> None:
        """The two gates differ in this statistic alone."""
        one, other = (pixels(draw_gates([gate(values)], title="")) for values in (first, second))
        top_of_cells = where(one, 0.1)[0].min() - 2
        assert (one[:top_of_cells] != other[:top_of_cells]).any()

    @pytest.mark.parametrize(
        "title", ["", "two\nlines\tand\0more", "Où? 猫 \U0001f600", "long " * 100_000]
    )
    def test_any_title_will_do(self, title: str) -> None:
        plain, titled = (
            pixels(draw_gates([gate(np.zeros(16))], title=t)) for t in ("plain", title)
        )
        assert plain.shape == titled.shape
        changed = (plain != titled).any(axis=-1).nonzero()
        assert changed[0].max() < 90
        assert changed[1].max() <= plain.shape[1] - 56  # the margin

    def test_no_gates_are_a_picture_that_says_so(self) -> None:
        picture = pixels(draw_gates([], title="none"))
        assert (picture[BELOW_HEADER - 10 :] != 255).any()

    @pytest.mark.parametrize("channels", [1, 16, 17, 2048, 5000])
    @pytest.mark.parametrize("count", [1, 2, 5, 9])
    def test_sizes_stay_within_bounds(self, channels: int, count: int) -> None:
        picture = pixels(draw_gates([gate(np.full(channels, 0.5))] * count, title="sizes"))
        height, width = picture.shape[:2]
        assert 600 <= width <= 4500
        assert 400 <= height <= 3000
        assert len(where(picture, 0.5)[0]) > 0.65 * count * 320 * 160  # 17 fill 3 rows of 8 so far

    def test_a_hundred_gates(self) -> None:
        config = GSoPResNetConfig(depth=152, gated_blocks="all", attention="fusion_avg")
        layout = gate_layout(config, 224, 224)
        assert len(layout) == 100
        picture = draw_gates(
            [(spec, np.full(spec.shape, 0.5, np.float32)) for spec in layout], title="all"
        )
        assert pixels(picture).shape[1] <= 4500
        assert len(picture) < 2_000_000

    def test_threads_draw_the_same(self) -> None:
        gates = [gate(np.random.default_rng(0).random(256))] * 4
        with ThreadPoolExecutor(4) as pool:
            pictures = set(pool.map(lambda _: draw_gates(gates, title="t"), range(12)))
        assert len(pictures) == 1

"""What the pictures of a run show: the lines themselves, not their pixels."""

from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gsop.train.plots import curves

LOG: dict[str, Sequence[float | None]] = {
    "step": [5, 10, 15, 20],
    "epoch": [0.5, 1.0, 1.5, 2.0],
    "seconds": [60, 120, 240, 480],
    "loss": [2.0, 1.5, 1.2, 1.0],
    "accuracy": [0.2, 0.4, 0.6, 0.8],
    "learning_rate": [0.1, 0.2, 0.1, 0.0],
    "held_out_loss": [None, 1.4, None, 0.9],
    "held_out_top1": [None, 0.5, None, 0.85],
}
AVERAGED = {"plain_loss": [None, 1.6, None, 1.1], "plain_top1": [None, 0.45, None, 0.75]}


def lines(figure: Figure, panel: int) -> dict[str, list[tuple[float, float]]]:
    def points(line: Line2D) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]

    return {str(line.get_label()): points(line) for line in figure.axes[panel].get_lines()}


def test_loss_and_accuracy_go_by_epochs_to_the_last_look_of_all() -> None:
    figure = curves(LOG)
    assert [axes.get_xlabel() for axes in figure.axes] == ["epoch"] * 3
    assert [axes.get_title() for axes in figure.axes] == ["loss", "accuracy", "learning rate"]
    assert lines(figure, 0) == {
        "training batches": [(0.5, 2.0), (1.0, 1.5), (1.5, 1.2), (2.0, 1.0)],
        "held out": [(1.0, 1.4), (2.0, 0.9)],
    }
    assert lines(figure, 1) == {
        "training batches": [(0.5, 0.2), (1.0, 0.4), (1.5, 0.6), (2.0, 0.8)],
        "held out": [(1.0, 0.5), (2.0, 0.85)],
    }
    (rates,) = lines(figure, 2).values()
    assert rates == [(0.5, 0.1), (1.0, 0.2), (1.5, 0.1), (2.0, 0.0)]


def test_averaged_weights_have_a_line_of_their_own() -> None:
    figure = curves({**LOG, **AVERAGED})
    for panel, kept, plain in ((0, 0.9, 1.1), (1, 0.85, 0.75)):
        drawn = lines(figure, panel)
        assert len(drawn) == 3
        assert drawn["held out, averaged weights"][-1] == (2.0, kept)
        assert drawn["held out, without the average"][-1] == (2.0, plain)
        legend = figure.axes[panel].get_legend()
        assert legend is not None
        assert [str(text.get_text()) for text in legend.get_texts()] == list(drawn)


def test_minutes_are_on_a_second_axis_above() -> None:
    figure = curves(LOG)
    for axes in figure.axes:
        (above,) = axes.child_axes
        assert above.get_xlabel() == "minutes"
        axes.set_xlim(0.5, 2.0)
    figure.draw_without_rendering()
    shown = [axes.child_axes[0].get_xlim() for axes in figure.axes]
    assert shown == [pytest.approx((1, 8))] * 3


def test_a_run_without_a_row_is_drawn_empty() -> None:
    assert set(map(len, lines(curves({}), 0).values())) == {0}

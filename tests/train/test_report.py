import numpy as np
import pytest

from gsop.train.report import make_report

LABELS = ("a", "b", "c", "d", "e", "f", "g")


def test_the_figures_are_those_of_the_answers() -> None:
    # Three images of 7 classes: right and sure, wrong but among the five, wrong and sixth.
    probabilities = np.array(
        [
            [0.94, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01],
            [0.40, 0.30, 0.10, 0.08, 0.06, 0.04, 0.02],
            [0.40, 0.30, 0.10, 0.08, 0.06, 0.04, 0.02],
        ],
        np.float32,
    )
    truth = np.array([0, 1, 5], np.int64)
    report = make_report(LABELS, probabilities, truth, broken=("x",), seconds=0.5)
    assert report.samples == 3
    assert report.top1 == pytest.approx(1 / 3)
    assert report.top5 == pytest.approx(2 / 3)
    assert report.images_per_second == 6
    assert report.confusion[1, 0] == report.confusion[5, 0] == report.confusion[0, 0] == 1
    # One image at 0.94 that is right, two at 0.40 that are wrong: (0.06 + 2 · 0.40) / 3.
    assert report.calibration_error == pytest.approx(0.86 / 3, abs=1e-6)
    assert report.per_class == {"a": (1, 1), "b": (0, 1), "f": (0, 1)}
    assert report.summary()["broken"] == ["x"]


def test_a_calibrated_model_has_no_calibration_error() -> None:
    rng = np.random.default_rng(0)
    first = rng.uniform(0.5, 1.0, 200_000).astype(np.float32)
    probabilities = np.stack([first, 1 - first], axis=1)
    truth = (rng.uniform(size=len(first)) > first).astype(np.int64)
    report = make_report(("a", "b"), probabilities, truth, broken=(), seconds=1.0)
    assert report.calibration_error < 0.01
    assert report.top5 == 1

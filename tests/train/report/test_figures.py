import numpy as np
import pytest

from gsop.train.report.figures import Figures
from tests.train.report.made import made


def test_the_figures_are_those_of_the_answers() -> None:
    # Three images of 7 classes: right and sure, wrong but among the five, wrong and sixth.
    wrong = [0.40, 0.30, 0.10, 0.08, 0.06, 0.04, 0.02]
    figures = Figures(made([[0.94, *[0.01] * 6], wrong, wrong], [0, 1, 5]))
    assert figures.top1.share == pytest.approx(1 / 3)
    assert figures.top5.share == pytest.approx(2 / 3)
    assert figures.told_top5() == [("top-5", str(figures.top5))]
    assert figures.facts()["top5"] == pytest.approx(2 / 3)
    assert figures.confusion[1, 0] == figures.confusion[5, 0] == figures.confusion[0, 0] == 1
    # One image at 0.94 that is right, two at 0.40 that are wrong: (0.06 + 2 · 0.40) / 3.
    assert figures.calibration_error == pytest.approx(0.86 / 3, abs=1e-6)
    assert [(c.label, c.recall.hits, c.recall.of) for c in figures.classes] == [
        ("a", 1, 1),
        ("b", 0, 1),
        ("f", 0, 1),
    ]
    assert [(p.truth, p.predicted, p.images, p.of) for p in figures.pairs] == [
        ("b", "a", 1, 1),
        ("f", "a", 1, 1),
    ]


def test_precision_recall_and_f1_of_a_class() -> None:
    # Of four a's three are found; one b is taken for a.
    answers = made(
        [[0.9, 0.1]] * 3 + [[0.1, 0.9]] + [[0.9, 0.1]] + [[0.1, 0.9]] * 5, [0] * 4 + [1] * 6
    )
    first = Figures(answers).classes[0]
    assert (first.recall.share, first.precision.share, first.f1) == (0.75, 0.75, 0.75)
    assert first.f1_interval[0] < 0.75 < first.f1_interval[1]


def test_a_calibrated_model_has_no_calibration_error() -> None:
    rng = np.random.default_rng(0)
    first = rng.uniform(0.5, 1.0, 100_000)
    truth = (rng.uniform(size=len(first)) > first).astype(int)
    figures = Figures(made(np.stack([first, 1 - first], axis=1).tolist(), truth.tolist()))
    assert figures.calibration_error < 0.01
    assert figures.top5.share == 1  # of two classes, which says nothing
    assert figures.told_top5() == []
    assert "top5" not in figures.facts()
    for one in figures.bins:
        assert one.low <= one.confidence <= one.high
    shares = [right for _, _, right in figures.coverage]
    assert shares[0] > 0.95
    assert shares[-1] == pytest.approx(figures.top1.share)


def test_facts_are_json_with_intervals() -> None:
    facts = Figures(made([[0.9, 0.1]] * 9 + [[0.1, 0.9]], [0] * 10)).facts()
    assert facts["top1"] == 0.9
    low, high = facts["top1_interval"]
    assert low < 0.9 < high
    assert facts["per_class"]["a"]["precision"]["share"] == 1
    assert facts["confused"] == [{"truth": "a", "predicted": "b", "images": 1, "of": 10}]

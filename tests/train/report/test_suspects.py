import numpy as np

from gsop.train.report.suspects import suspects
from tests.train.report.made import made


def test_labels_that_were_changed_are_found() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 600)
    sure = rng.uniform(0.6, 0.99, 600)
    probabilities = np.full((600, 3), 0.0)
    for n, (label, share) in enumerate(zip(truth, sure, strict=True)):
        probabilities[n] = (1 - share) / 2
        probabilities[n, label] = share
    changed = rng.choice(600, 30, replace=False)
    labels = truth.copy()
    labels[changed] = (labels[changed] + 1) % 3
    found = suspects(made(probabilities.tolist(), labels.tolist()))
    named = {one.number for one in found}
    # Those of which it is as sure as it usually is.
    assert {n for n in changed.tolist() if sure[n] > 0.8} <= named <= set(changed.tolist())
    assert all(one.likely == truth[one.number] for one in found)
    assert [one.gap for one in found] == sorted((one.gap for one in found), reverse=True)


def test_a_mistake_that_the_model_is_unsure_of_is_no_suspect() -> None:
    assert not suspects(
        made([[0.95, 0.05]] * 9 + [[0.55, 0.45]] + [[0.05, 0.95]] * 5, [0] * 9 + [1] * 6)
    )


def test_a_class_without_images_is_nobodys_label() -> None:
    assert not suspects(made([[0.2, 0.2, 0.6]] * 4, [0, 0, 1, 1]))

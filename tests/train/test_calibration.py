import numpy as np
import numpy.typing as npt
import pytest

from gsop.train.calibration import (
    LEAST_IMAGES,
    bins_of,
    calibrate,
    calibration_error,
    error_of,
    fit_temperature,
    softmax,
)


def answers(
    images: int, *, temperature: float, seed: int = 0
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Logits that are right after division by ``temperature``, and the classes that were drawn."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(images, 6)) * 2.5
    drawn = (softmax(honest).cumsum(axis=1) > rng.random((images, 1))).argmax(axis=1)
    return honest * temperature, drawn


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_was_applied_is_found(temperature: float) -> None:
    logits, truth = answers(5000, temperature=temperature)
    assert fit_temperature(logits, truth) == pytest.approx(temperature, rel=0.06)


def test_the_error_falls_to_a_third_on_images_that_took_no_part() -> None:
    logits, truth = answers(2000, temperature=0.4)
    found = calibrate(logits, truth)
    assert found is not None
    assert found.after < found.before / 3
    others, their_truth = answers(2000, temperature=0.4, seed=1)
    assert error_of(softmax(others / found.temperature), their_truth) < found.before / 3


def test_no_answer_changes_its_class() -> None:
    logits, truth = answers(200, temperature=3.0)
    found = calibrate(logits, truth)
    assert found is not None
    assert (softmax(logits / found.temperature).argmax(axis=1) == logits.argmax(axis=1)).all()


def test_few_images_that_are_all_right_do_not_make_it_certain() -> None:
    truth = np.arange(LEAST_IMAGES) % 2
    found = calibrate(np.eye(2)[truth], truth)
    assert found is not None
    sure = softmax(np.eye(2) / found.temperature).max()
    assert sure == pytest.approx(1 - 1 / (LEAST_IMAGES + 2), abs=1e-3)


def test_of_too_few_images_there_is_none() -> None:
    truth = np.zeros(LEAST_IMAGES - 1, np.int64)
    assert calibrate(np.zeros((len(truth), 2)), truth) is None


def test_the_error_is_the_mean_gap_of_the_bins() -> None:
    confidence = np.array([0.94, 0.94, 0.40, 1.0])
    right = np.array([True, False, True, True])
    # Of three above 14/15, 2.88 were expected to be right, and 2 are; of one at 0.40, it is.
    assert calibration_error(confidence, right) == pytest.approx((0.88 + 0.60) / 4)
    assert bins_of(confidence).tolist() == [14, 14, 6, 14]

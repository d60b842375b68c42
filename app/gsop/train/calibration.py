"""How far probabilities can be believed, and the temperature that makes them so.

A network that was trained with smoothed labels says 0.91 where 0.99 are right; one that was trained
for long says 0.99 where 0.91 are. Dividing the logits by one number, the *temperature*, mends most
of either, and changes no answer's class (arXiv 1706.04599, section 4.2).
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from gsop.errors import ConfigError

BINS: Final = 15
"""Bins of confidence over which the calibration error is taken, as in arXiv 1706.04599."""

LEAST_IMAGES: Final = 20
"""Of fewer no temperature is taken: any would be chance."""

FOLDS: Final = 5
"""Parts of the images; each is judged by the temperature of the others."""

RANGE: Final = (0.05, 20.0)
"""Temperatures that are considered."""

Numbers = npt.NDArray[np.floating]
Classes = npt.NDArray[np.int64]


class Calibration(NamedTuple):
    """A temperature, and what it is worth.

    Attributes:
        temperature: to divide logits by.
        before: calibration error without it, 0 to 1.
        after: with it, each image judged by a temperature that was fitted without it.
        images: that it was fitted on.
    """

    temperature: float
    before: float
    after: float
    images: int

    def facts(self) -> dict[str, Any]:
        """For a manifest's ``metrics``."""
        return {
            "error_before": self.before,
            "error": self.after,
            "samples": self.images,
            "how": "expected calibration error over 15 bins of confidence, on the held-out images. "
            "The temperature is fitted on them; the error with it is measured on each fifth of "
            "them with a temperature that was fitted on the others",
        }


def calibrate(logits: Numbers, truth: Classes) -> Calibration | None:
    """The temperature for a network, fitted on images that it was not trained on.

    Args:
        logits: (N, classes).
        truth: the classes, (N,).

    Returns:
        ``None`` if there are fewer than :data:`LEAST_IMAGES`.

    Raises:
        ConfigError: if scipy is not installed.
    """
    images = len(truth)
    if images < LEAST_IMAGES:
        return None
    folds = np.random.default_rng(0).permutation(images) % FOLDS
    judged = np.empty(logits.shape, np.float64)
    for fold in range(FOLDS):
        out = folds == fold
        judged[out] = logits[out] / fit_temperature(logits[~out], truth[~out])
    return Calibration(
        temperature=fit_temperature(logits, truth),
        before=error_of(softmax(logits), truth),
        after=error_of(softmax(judged), truth),
        images=images,
    )


def fit_temperature(logits: Numbers, truth: Classes) -> float:
    """The temperature with the least cross-entropy, to four digits.

    The truth is taken to be a little unsure, as Platt does (1999, section 2.2): of N images all of
    which are right, one more might have been wrong. Else so few images would make it as low as can
    be.

    Args:
        logits: (N, classes).
        truth: the classes, (N,).

    Raises:
        ConfigError: if scipy is not installed.
    """
    try:
        from scipy.optimize import minimize_scalar
    except ImportError as error:
        raise ConfigError(
            "a temperature is fitted with scipy, which is not installed: pip install '.[train]'"
        ) from error
    logits = logits.astype(np.float64)
    images, classes = logits.shape
    targets = np.full(logits.shape, 1 / (images + 2) / max(1, classes - 1))
    targets[np.arange(images), truth] = (images + 1) / (images + 2)

    def loss(log_temperature: float) -> float:
        return float(-(targets * log_softmax(logits / np.exp(log_temperature))).sum() / images)

    found = minimize_scalar(loss, bounds=np.log(RANGE), method="bounded", options={"xatol": 1e-4})
    return float(f"{np.exp(found.x):.4g}")


def log_softmax(logits: Numbers) -> npt.NDArray[np.float64]:
    """Logarithms of the probabilities, (…, classes)."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def softmax(logits: Numbers) -> npt.NDArray[np.float64]:
    """Probabilities, (…, classes)."""
    return np.asarray(np.exp(log_softmax(logits)))


def error_of(probabilities: Numbers, truth: Classes) -> float:
    """The expected calibration error of the answers, 0 to 1 (arXiv 1706.04599, eq. 3).

    Args:
        probabilities: (N, classes).
        truth: the classes, (N,).
    """
    return calibration_error(probabilities.max(axis=1), probabilities.argmax(axis=1) == truth)


def bins_of(confidence: Numbers) -> npt.NDArray[np.int64]:
    """The bin of each confidence, 0 to ``BINS - 1``."""
    return np.minimum((confidence * BINS).astype(np.int64), BINS - 1)


def calibration_error(confidence: Numbers, right: npt.NDArray[np.bool_]) -> float:
    """Mean over the images of |accuracy - confidence| of their bin."""
    gaps = np.bincount(bins_of(confidence), right.astype(float) - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(right))

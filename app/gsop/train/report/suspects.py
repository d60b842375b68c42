"""Labels in doubt: images that a model takes for another class as surely as that class's own."""

from typing import NamedTuple

import numpy as np

from gsop.train.report.answers import Answers


class Suspect(NamedTuple):
    """An image whose label may be wrong.

    Attributes:
        number: of the image, in the answers.
        given: the class that it has.
        likely: the class that the model takes it for.
        gap: by how much that is more probable, 0 to 1; the larger, the surer.
    """

    number: int
    given: int
    likely: int
    gap: float


def suspects(answers: Answers) -> list[Suspect]:
    """The images whose labels are in doubt, the surest first.

    Confident learning (Northcutt, Jiang and Chuang, 2021, section 3.1): the threshold of a class is
    the mean probability that it gets for images that are labelled so. An image counts for the most
    probable of the classes whose thresholds it reaches; if that is not the one it is labelled as,
    the label is in doubt. Images that the model has learnt by heart hide their labels' faults, so
    ask this of images that it has not been trained on.
    """
    probabilities, truth = answers.probabilities, answers.truth
    classes = probabilities.shape[1]
    images = np.bincount(truth, minlength=classes)
    sums = np.bincount(truth, answers.of_truth, minlength=classes)
    # A class without images has no threshold that could be reached.
    thresholds = np.where(images > 0, sums / np.maximum(images, 1), np.inf)
    reached = np.where(probabilities >= thresholds, probabilities, -1)
    likely = reached.argmax(axis=1)
    doubtful = np.flatnonzero((reached.max(axis=1) >= 0) & (likely != truth))
    found = [
        Suspect(n, int(truth[n]), int(likely[n]), float(probabilities[n, likely[n]] - own))
        for n, own in zip(doubtful.tolist(), answers.of_truth[doubtful].tolist(), strict=True)
    ]
    return sorted((one for one in found if one.gap > 0), key=lambda one: -one.gap)

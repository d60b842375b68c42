"""Answers of a network that is none: gates around a mean for each class."""

import numpy as np
import numpy.typing as npt

from gsop.gates.answers import AnswerLayout
from gsop.gates.reference import Reference
from gsop.model.config import GateSpec

Answers = npt.NDArray[np.float32]

CLASSES, GATES = 3, 12
LAYOUT = AnswerLayout(
    tuple("abc"),
    (
        GateSpec("layer1", "layer1.0", "channel", (4,)),
        GateSpec("layer2", "layer2.1", "position", (2, 4)),
    ),
)
CENTRES = np.random.default_rng(7).normal(0, 2, (CLASSES, GATES))


def answers(
    random: np.random.Generator,
    count: int,
    *,
    shift: float = 0.0,
    classes: tuple[int, ...] = (0, 1, 2),
) -> Answers:
    """Of so many images; the first gate is ``shift`` deviations off."""
    chosen = random.choice(classes, count)
    logits = CENTRES[chosen] + random.normal(0, 0.5, (count, GATES))
    logits[:, 0] += 0.5 * shift
    gates = 1 / (1 + np.exp(-logits))
    probabilities = np.full((count, CLASSES), 0.05) + 0.85 * np.eye(CLASSES)[chosen]
    return np.concatenate([probabilities, gates], axis=1).astype(np.float32)


def reference(random: np.random.Generator, count: int = 2000) -> Reference:
    """Of so many images."""
    return Reference.measure(LAYOUT, answers(random, count), what="images of a test")

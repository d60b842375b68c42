"""Answers that tests make."""

from collections.abc import Sequence

import numpy as np

from gsop.train.report.answers import Answers


def made(probabilities: Sequence[Sequence[float]], truth: Sequence[int], gates: int = 0) -> Answers:
    """Answers with these probabilities (N, classes), their classes called a, b, …."""
    given = np.array(probabilities, np.float32)
    return Answers(
        labels=tuple("abcdefgh"[: given.shape[1]]),
        names=tuple(f"{n}.png" for n in range(len(given))),
        truth=np.array(truth, np.int64),
        probabilities=given,
        gates=np.full((len(given), gates), 0.5, np.float32),
    )

"""From a vector of probabilities and gates to what a person reads."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gsop.gates.memory import split_gates
from gsop.model.config import GateSpec
from gsop.store.manifest import Manifest


@dataclass(frozen=True)
class ClassScore:
    """One line of an answer's predictions."""

    class_id: int
    label: str
    probability: float


def top_classes(
    manifest: Manifest, values: npt.NDArray[np.floating], top_k: int
) -> list[ClassScore]:
    """The ``top_k`` likeliest classes (all, if there are fewer), likeliest first.

    Args:
        manifest: of the model that answered.
        values: ``(classes + G,)``: probabilities, then gates.
        top_k: how many.
    """
    probabilities = values[: manifest.config.num_classes]
    count = min(top_k, len(probabilities))
    best = np.argpartition(probabilities, -count)[-count:]
    best = best[np.argsort(-probabilities[best], kind="stable")]
    return [
        ClassScore(class_id, manifest.labels[class_id], probability)
        for class_id, probability in zip(best.tolist(), probabilities[best].tolist(), strict=True)
    ]


def gates_of(
    manifest: Manifest, values: npt.NDArray[np.floating]
) -> Iterator[tuple[GateSpec, npt.NDArray[np.floating]]]:
    """Each gate of an answer, or of answers ``(N, classes + G)``, in its own shape."""
    return split_gates(manifest.gates, values[..., manifest.config.num_classes :])

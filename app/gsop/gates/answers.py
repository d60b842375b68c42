"""What an answer is: a vector of numbers, and how it is read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from gsop.model.config import GateSpec

T = TypeVar("T")
Values = npt.NDArray[np.floating]


@dataclass(frozen=True)
class ClassScore:
    """One line of an answer's predictions."""

    class_id: int
    label: str
    probability: float


@dataclass(frozen=True)
class AnswerLayout:
    """Where what lies in an answer: probabilities, then the gates, one after the other.

    Nobody else knows. All methods take one answer ``(width,)`` or several ``(…, width)``.

    Attributes:
        labels: one text a class.
        gates: the gates, in network order.
    """

    labels: tuple[str, ...]
    gates: tuple[GateSpec, ...]

    @cached_property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.labels)

    @cached_property
    def gate_size(self) -> int:
        """Numbers in all gates of one answer together: G."""
        return sum(gate.size for gate in self.gates)

    @cached_property
    def width(self) -> int:
        """Numbers in one answer."""
        return self.classes + self.gate_size

    def assemble(
        self, probabilities: T, gates: Sequence[T], concatenate: Callable[[list[T]], T]
    ) -> T:
        """An answer of its parts, by a library's ``concatenate`` along the last axis.

        Args:
            probabilities: ``(…, classes)``.
            gates: each ``(…, size)``, in order; or all of them, ``(…, G)``, as the only one.
            concatenate: joins them.
        """
        return concatenate([probabilities, *gates])

    def probabilities(self, values: Values) -> Values:
        """The probabilities, ``(…, classes)``."""
        return values[..., : self.classes]

    def gate_values(self, values: Values) -> Values:
        """All gates, ``(…, G)``."""
        return values[..., self.classes :]

    def winners(self, values: Values) -> npt.NDArray[np.intp]:
        """The likeliest class of each answer, ``(…,)``."""
        return np.asarray(self.probabilities(values).argmax(axis=-1))

    def split_gates(self, gate_values: Values) -> Iterator[tuple[GateSpec, Values]]:
        """Each gate with its part of ``gate_values`` ``(…, G)``, in the gate's own shape."""
        at = 0
        for spec in self.gates:
            part = gate_values[..., at : at + spec.size]
            yield spec, part.reshape(*part.shape[:-1], *spec.shape)
            at += spec.size

    def gates_of(self, values: Values) -> Iterator[tuple[GateSpec, Values]]:
        """Each gate with its part of an answer, in the gate's own shape."""
        return self.split_gates(self.gate_values(values))

    def top_classes(self, values: Values, top_k: int) -> list[ClassScore]:
        """The ``top_k`` likeliest classes of one answer (all, if there are fewer), in order."""
        probabilities = self.probabilities(values)
        count = min(top_k, self.classes)
        best = np.argpartition(probabilities, -count)[-count:]
        best = best[np.argsort(-probabilities[best], kind="stable")]
        return [
            ClassScore(class_id, self.labels[class_id], probability)
            for class_id, probability in zip(
                best.tolist(), probabilities[best].tolist(), strict=True
            )
        ]

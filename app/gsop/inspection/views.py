"""What was seen of one image, as numbers. No torch.

Everything is float64: an inspection is there to be exact, and costs one image.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from gsop.gates.answers import AnswerLayout, ClassScore
from gsop.model.config import GateSpec

Doubles = npt.NDArray[np.float64]

Way = Literal["open", "closed", "mean", "other"]
"""What gates can be replaced by: 1, 0, each gate's own mean, those of another image."""

WAYS: dict[Way, str] = {
    "open": "every gate 1: as if the network had none",
    "closed": "every gate 0: the blocks let nothing but their shortcut through",
    "mean": "each gate's own mean in all its places: as open as before, but choosing nothing",
    "other": "the gates of another image",
}
"""The ways, and what they mean."""


@dataclass(frozen=True)
class GateView:
    """One gate, and what it was made of.

    Attributes:
        spec: which gate it is.
        gate: the gate itself, of the shape that ``spec`` says.
        logits: before the sigmoid, ``(L,)``: a number a channel, or one for each of the 8×8 places
            that a position gate is enlarged from.
        features: the reduced features ``(d, h, w)`` that the matrix is taken over; ``None`` for a
            gate that is made of no matrix (squeeze-and-excitation).
        matrix: the covariance ``(rows, rows)`` as the gate is computed from it; ``None`` likewise.
    """

    spec: GateSpec
    gate: Doubles
    logits: Doubles
    features: Doubles | None
    matrix: Doubles | None

    @cached_property
    def correlation(self) -> Doubles | None:
        """The matrix with its diagonal scaled to 1; 0 in rows that do not vary."""
        if self.matrix is None:
            return None
        deviations = np.sqrt(np.maximum(np.diagonal(self.matrix), 0))
        scale = np.divide(1, deviations, out=np.zeros_like(deviations), where=deviations > 0)
        correlation: Doubles = self.matrix * scale[:, None] * scale
        return correlation

    @cached_property
    def spectrum(self) -> Doubles | None:
        """The matrix's eigenvalues ``(rows,)``, from the greatest."""
        if self.matrix is None:
            return None
        return np.array(np.linalg.eigvalsh(self.matrix)[::-1], np.float64)  # a copy, in order

    @property
    def effective_rank(self) -> float | None:
        """How many directions share the variance: (Σλ)² / Σλ², 1 at least; ``None`` without any."""
        if self.spectrum is None or not (squares := float(np.square(self.spectrum).sum())):
            return None
        return float(self.spectrum.sum()) ** 2 / squares


@dataclass(frozen=True)
class Look:
    """One image, seen from inside.

    Attributes:
        layout: of the network's answers.
        pixels: the image as the network sees it, ``(H, W, 3)`` uint8.
        logits: of the classes.
        probabilities: of the classes, as the version answers: by its temperature.
        gates: in network order.
    """

    layout: AnswerLayout
    pixels: npt.NDArray[np.uint8]
    logits: Doubles
    probabilities: Doubles
    gates: tuple[GateView, ...]

    @property
    def class_id(self) -> int:
        """The answer: the likeliest class."""
        return int(self.logits.argmax())

    def top_classes(self, top_k: int) -> list[ClassScore]:
        """The likeliest classes, in order."""
        return self.layout.top_classes(self.probabilities, top_k)


@dataclass(frozen=True)
class Ablated:
    """What the answer would be with other gates.

    Attributes:
        stage: whose gates were replaced; ``all`` for those of all stages.
        way: by what.
        logits: of the classes.
        probabilities: of the classes, as :attr:`Look.probabilities`.
    """

    stage: str
    way: Way
    logits: Doubles
    probabilities: Doubles


@dataclass(frozen=True)
class Switched:
    """What the answer would be with one channel of a gate switched, for each of its channels.

    Attributes:
        spec: the gate.
        to: what the channel's gate was set to.
        class_id: the class that is asked about: the answer of the untouched network.
        before: its logit and its probability in the untouched network.
        logits: its logit with each channel switched, ``(C,)``.
        probabilities: its probability, ``(C,)``.
        winners: the likeliest class then, ``(C,)``.
    """

    spec: GateSpec
    to: float
    class_id: int
    before: tuple[float, float]
    logits: Doubles
    probabilities: Doubles
    winners: npt.NDArray[np.int64]

    @property
    def effects(self) -> Doubles:
        """``(C,)``: how much each channel lifts the class's logit: what is lost by switching it."""
        return self.before[0] - self.logits

    def strongest(self, count: int) -> Iterator[int]:
        """The channels that move the logit most, either way, from the strongest."""
        yield from np.argsort(-np.abs(self.effects), kind="stable")[:count].tolist()


@dataclass(frozen=True)
class Inspection:
    """All that was found out about one image.

    Attributes:
        model: ``name/version``.
        source: what the image is called.
        other: what the other image is called, whose gates were put in; ``None`` without one.
        look: what was seen.
        ablations: stage by stage, and all stages together, each in all ways.
        channels: what single channels do, one entry a gate that was asked about.
    """

    model: str
    source: str
    other: str | None
    look: Look
    ablations: tuple[Ablated, ...]
    channels: tuple[Switched, ...]

"""The question how far a version's gates have drifted: how it is put, how it is answered."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gsop.gates.drift import DriftWatch
from gsop.gates.memory import GateMemory
from gsop.gates.population import Doubles, as_gates
from gsop.gates.reference import Facts
from gsop.gates.windows import Windows

Reply = tuple[dict[str, Any], npt.NDArray[np.float64]]


class WindowFacts(NamedTuple):
    """What there is to say of a window beside its gates.

    Attributes:
        images: different ones.
        began, ended: Unix times of the first and the last of them.
        repeats: how many of them say as much as one independent image.
        is_full: whether it is; one that is being filled is shown, but judges nothing.
        score: the evidence of this window alone, over the limit.
    """

    images: int
    began: float
    ended: float
    repeats: float
    is_full: bool
    score: float


class ShownGates(NamedTuple):
    """A window beside the reference, gate by gate.

    Attributes:
        reference: ``(G,)``, the mean gates that images of the window's classes should have.
        live: ``(G,)``, those that they have.
        shift: ``(G,)``, how far off they are, in deviations of the gate.
        evidence: ``(G,)``, the same in standard errors, over the limit: beyond 1 it is drift.
    """

    reference: Doubles
    live: Doubles
    shift: Doubles
    evidence: Doubles


@dataclass(frozen=True)
class DriftReport:
    """How far the gates of one version are from its reference, in one engine.

    Attributes:
        score: the evidence over its limit; ``None`` until there are two full windows.
        images: different ones that were seen.
        digest: of the reference; ``None`` if there is none.
        facts: of the reference.
        reference_images: what it was made of.
        is_learned: whether of served images.
        learning: images that a reference was learned from until now, and how many it takes.
        window: the newest window; ``None`` while no block is full.
        gates: what it shows.
        reference_mix, live_mix: ``(C,)``, shares of the predicted classes.
    """

    score: float | None = None
    images: int = 0
    digest: str | None = None
    facts: Facts | None = None
    reference_images: int = 0
    is_learned: bool = False
    learning: tuple[int, int] | None = None
    window: WindowFacts | None = None
    gates: ShownGates | None = None
    reference_mix: Doubles | None = None
    live_mix: Doubles | None = None

    @property
    def weight(self) -> tuple[bool, float, int]:
        """Of several engines' reports the one with the most is shown."""
        return self.facts is not None, self.score or 0.0, self.images


@dataclass(frozen=True)
class DriftQuery:
    """How far the gates of a model have drifted."""

    model: int

    def answer(self, memories: Sequence[GateMemory]) -> Reply:
        """The engine's side."""
        memory = memories[self.model]
        memory.catch_up()
        watch = memory.drift
        if watch is None:
            return {}, np.zeros(0)
        if watch.reference is None:
            return {"learning": watch.learning}, np.zeros(0)
        return _report(watch)

    @staticmethod
    def read(meta: dict[str, Any], values: npt.NDArray[np.float64]) -> DriftReport:
        """The front's side."""
        if "facts" not in meta:
            learning = meta.get("learning")
            return DriftReport(learning=None if learning is None else tuple(learning))
        window, classes = meta["window"], meta["classes"]
        mixes, gates = values[: 2 * classes].reshape(2, classes), values[2 * classes :]
        return DriftReport(
            score=meta["score"],
            images=meta["images"],
            digest=meta["digest"],
            facts=Facts.model_validate(meta["facts"]),
            reference_images=meta["reference_images"],
            is_learned=meta["is_learned"],
            window=None if window is None else WindowFacts(*window),
            gates=None if window is None else ShownGates(*gates.reshape(4, -1)),
            reference_mix=mixes[0],
            live_mix=None if window is None else mixes[1],
        )


def _report(watch: DriftWatch) -> Reply:
    reference, windows = watch.reference, watch.windows
    assert reference is not None, "asked for only where there is one"  # noqa: S101
    shares = reference.population.shares
    meta: dict[str, Any] = {
        "score": None if windows is None else windows.score,
        "images": watch.images,
        "digest": reference.digest,
        "facts": reference.facts.model_dump(mode="json"),
        "reference_images": reference.population.images,
        "is_learned": reference.is_learned,
        "classes": len(shares),
        "window": None,
    }
    if windows is None or not windows.newest.images:
        return meta, np.concatenate([shares, np.zeros_like(shares)])
    window = windows.newest
    facts = WindowFacts(
        window.images,
        window.began,
        window.ended,
        window.repeats,
        bool(windows.finished),
        windows.score_of(window),
    )
    meta["window"] = list(facts)
    return meta, np.concatenate([shares, window.mix, *_gates(windows)])


def _gates(windows: Windows) -> ShownGates:
    window, population = windows.newest, windows.population
    usual = population.mean_logits(window.mix)
    return ShownGates(
        as_gates(usual),
        as_gates(usual + window.shifts * population.scale),
        window.shifts,
        windows.evidence(window) / windows.limit,
    )

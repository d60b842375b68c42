"""Watches whether a version's gates are still those of its reference, in one engine."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gsop.gates.answers import AnswerLayout
from gsop.gates.arrays import Arrays
from gsop.gates.learning import Learner
from gsop.gates.population import Doubles, as_logits
from gsop.gates.reference import Facts, Reference
from gsop.gates.windows import Windows

Answers = npt.NDArray[np.float32]


class Plan(NamedTuple):
    """How drift is watched.

    Attributes:
        window: different images in a window; 0: it is not watched.
        learn: images that a reference is learned from, for a version that brings none; 0: none is.
    """

    window: int = 0
    learn: int = 0


NO_PLAN = Plan()


class DriftStatus(NamedTuple):
    """What is told of drift all the time.

    Attributes:
        score: the evidence over its limit; ``None`` until there are two windows.
        gates: numbers in the gates whose evidence in the newest full window is above the limit.
        images: different images in the windows until now, in full blocks.
        is_learned: whether the reference was learned from served images.
    """

    score: float | None = None
    gates: int = 0
    images: int = 0
    is_learned: bool = False


def _nothing(_: Doubles) -> None:
    """What to do with a familiarity that nobody wants."""


class DriftWatch:
    """The windows of one version, and the reference that they are compared with.

    Args:
        layout: of the answers.
        reference: the version's, if it brings one.
        plan: how.
        on_familiarity: is told how familiar answers are, N at a time.

    Attributes:
        reference: what is compared with; a learned one once it is.
        windows: ``None`` while there is no reference.
    """

    def __init__(
        self,
        layout: AnswerLayout,
        reference: Reference | None = None,
        plan: Plan = NO_PLAN,
        on_familiarity: Callable[[Doubles], None] = _nothing,
    ) -> None:
        self.reference: Reference | None = None
        self.windows: Windows | None = None
        self._layout = layout
        self._window = plan.window
        self._on_familiarity = on_familiarity
        self._learner: Learner | None = None
        if reference is not None:
            self._use(reference)
        elif plan.window and plan.learn and layout.gate_size:
            self._learner = Learner(layout, plan.learn)

    def _use(self, reference: Reference) -> None:
        self.reference, self._learner = reference, None
        if self._window:
            limit = reference.facts.limit
            self.windows = Windows(reference.population, limit, self._window)

    @property
    def learning(self) -> tuple[int, int] | None:
        """Images that a reference has been learned from, and how many it takes."""
        return None if self._learner is None else (self._learner.seen, self._learner.wanted)

    @property
    def images(self) -> int:
        """Different images in the windows until now, in full blocks."""
        return 0 if self.windows is None else self.windows.counted

    @property
    def status(self) -> DriftStatus:
        """What is told all the time."""
        if self.reference is None or self.windows is None:
            return DriftStatus()
        windows, over = self.windows, 0
        if windows.finished:
            over = int((np.abs(windows.evidence(windows.newest)) > windows.limit).sum())
        return DriftStatus(windows.score, over, self.images, self.reference.is_learned)

    def add(self, values: Answers, now: float) -> None:
        """Take N answers in, ``(N, width)``, that were given until ``now``, Unix time."""
        if self._learner is not None:
            self._learner.add(values)
            if self._learner.is_done:
                self._use(self._learner.learn())
            return
        if self.reference is None:
            return
        gates, classes = self._layout.gate_values(values), self._layout.winners(values)
        logits = as_logits(gates)
        if self.windows is not None:
            self.windows.add(gates, logits, classes, now)
        if self.reference.neighbours is not None:
            self._on_familiarity(self.reference.neighbours.familiarity(logits, classes))

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """All that is remembered: values for JSON, and arrays."""
        if self._learner is not None:
            return {"reference": None}, {"learning": self._learner.answers}
        if self.reference is None or self.windows is None:
            return {}, {}
        meta, arrays = self.windows.state()
        meta["reference"] = self.reference.digest
        if self.reference.is_learned:
            meta["facts"] = self.reference.facts.model_dump(mode="json")
            arrays |= {f"reference.{n}": a for n, a in self.reference.arrays.items()}
        return meta, arrays

    def take_over(self, meta: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on with what a predecessor remembered, as :meth:`state` told it.

        Windows are only gone on with where both have the same reference.
        """
        if not meta:
            return
        if self._learner is not None and "learning" in arrays:
            since = self._learner.answers
            self._learner = Learner(self._layout, self._learner.wanted)
            for part in (arrays["learning"], since):
                self.add(part, time.time())
        elif self._learner is not None and "facts" in meta:
            learned = {
                name.removeprefix("reference."): array
                for name, array in arrays.items()
                if name.startswith("reference.")
            }
            since = self._learner.answers
            facts = Facts.model_validate(meta["facts"])
            self._use(Reference.unpack(self._layout, facts, learned))
            self.add(since, time.time())
        if (
            self.windows is not None
            and self.reference is not None
            and self.reference.digest == meta["reference"]
        ):
            self.windows.take_over(meta, arrays)

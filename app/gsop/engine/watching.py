"""What an engine remembers of its versions' answers, watches in them, and tells of that."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from gsop.arena.counters import Meter
from gsop.arena.drift_board import DriftWriter
from gsop.arena.families import FAMILIARITY
from gsop.arena.layout import Arena
from gsop.gates.drift import DriftWatch, Plan
from gsop.gates.memory import GateMemory
from gsop.gates.reference import Reference
from gsop.gates.tally import ClassTally


class Memories:
    """One memory a version, in the order of the deployment.

    Args:
        arena: of the engine's generation.
        incarnation: of the engine.
        references: of the versions, in their order; empty where none brings one.
        tallies: of their classes, where a device keeps them.
        meter: counts how familiar answers are.

    Attributes:
        all: the memories.
    """

    def __init__(
        self,
        arena: Arena,
        incarnation: int,
        references: Sequence[Reference | None],
        tallies: Sequence[ClassTally | None],
        meter: Meter,
    ) -> None:
        deployment = arena.deployment
        settings, manifests = deployment.settings, deployment.manifests
        plan = Plan(settings.drift_window, settings.drift_learn)
        self._board = DriftWriter(arena, incarnation)
        self._meter = meter
        self._watches = [
            DriftWatch(
                manifest.answer,
                reference,
                plan,
                partial(self._observe, str(deployment.place(index))),
            )
            for index, (manifest, reference) in enumerate(
                zip(manifests, references or [None] * len(manifests), strict=True)
            )
        ]
        self._told = [-1] * len(manifests)
        self.all = [
            GateMemory(manifest.answer, settings.attention_records, tally=tally, drift=watch)
            for manifest, tally, watch in zip(manifests, tallies, self._watches, strict=True)
        ]

    def catch_up(self) -> None:
        """See what has been put off: there is time."""
        for memory in self.all:
            memory.catch_up()
        self.tell()

    def tell(self) -> None:
        """Tell how far versions have drifted, where more was seen since that was told last."""
        for index, watch in enumerate(self._watches):
            if watch.images != self._told[index]:
                self._told[index] = watch.images
                self._board.tell(index, watch.status)

    def _observe(self, place: str, familiarity: npt.NDArray[np.float64]) -> None:
        self._meter.observe_all(FAMILIARITY, familiarity, place)

"""How an answer compares with its version's reference, as a front tells it.

Engines count the familiarity of all answers, many at a time; a front works out what it is asked
for. It reads a version's reference when it first needs it, and keeps it with the generation: for
1000 classes and 4000 numbers of gates some 10 MB, half-precision means by class most of it.
"""

import asyncio
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gsop.errors import StoreError
from gsop.gates.population import Floats, as_logits
from gsop.gates.reference import Reference
from gsop.store.manifest import Manifest
from gsop.store.reference import read_reference

log = logging.getLogger("gsop.front")

Known = asyncio.Task[Reference | None]


class References:
    """The references of one generation's versions.

    Args:
        store: where the versions lie.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._known: dict[tuple[str, str], Known] = {}

    async def familiarity(
        self, manifest: Manifest, values: npt.NDArray[np.floating]
    ) -> float | None:
        """How familiar an answer ``(width,)`` of a version is, 0 to 1.

        ``None`` if the version brings no reference.
        """
        reference = await self._reference(manifest)
        if reference is None or reference.neighbours is None:
            return None
        layout, answers = manifest.answer, values[None]
        logits = as_logits(layout.gate_values(answers))
        return float(reference.neighbours.familiarity(logits, layout.winners(answers))[0])

    async def residuals(
        self, manifest: Manifest, values: npt.NDArray[np.floating]
    ) -> Floats | None:
        """``(G,)``: how far each gate of an answer lies from the mean of its predicted class.

        As logits, in deviations of the gate within a class of the reference; ``None`` if the
        version brings no reference.

        Args:
            manifest: the version's.
            values: ``(width,)``, the answer.
        """
        reference = await self._reference(manifest)
        if reference is None:
            return None
        layout, answers = manifest.answer, values[None]
        logits = as_logits(layout.gate_values(answers))
        residuals: Floats = reference.population.residuals(logits, layout.winners(answers))[0]
        return residuals

    async def _reference(self, manifest: Manifest) -> Reference | None:
        key = manifest.name, manifest.version
        if key not in self._known:
            reading = asyncio.to_thread(_read, self._store, manifest)
            self._known[key] = asyncio.ensure_future(reading)
        # Whoever asked first may leave while others wait.
        return await asyncio.shield(self._known[key])


def _read(store: Path, manifest: Manifest) -> Reference | None:
    try:
        return read_reference(store / manifest.name / manifest.version, manifest)
    except StoreError as error:
        log.warning("nothing is compared with the reference: %s", error)
        return None

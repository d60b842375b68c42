"""How familiar an answer is, as a front tells it: by the reference that its version brings.

Engines count the familiarity of all answers, many at a time; a front works out those that it is
asked for. It reads a version's reference when it first needs it.
"""

import asyncio
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gsop.errors import StoreError
from gsop.gates.familiarity import Neighbours
from gsop.gates.population import as_logits
from gsop.store.manifest import Manifest
from gsop.store.reference import read_reference

log = logging.getLogger("gsop.front")

Known = asyncio.Task[Neighbours | None]


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
        key = manifest.name, manifest.version
        if key not in self._known:
            reading = asyncio.to_thread(_read, self._store, manifest)
            self._known[key] = asyncio.ensure_future(reading)
        # Whoever asked first may leave while others wait.
        known = await asyncio.shield(self._known[key])
        if known is None:
            return None
        layout, answers = manifest.answer, values[None]
        logits = as_logits(layout.gate_values(answers))
        return float(known.familiarity(logits, layout.winners(answers))[0])


def _read(store: Path, manifest: Manifest) -> Neighbours | None:
    try:
        reference = read_reference(store / manifest.name / manifest.version, manifest)
    except StoreError as error:
        log.warning("nothing is said of familiarity: %s", error)
        return None
    return None if reference is None else reference.neighbours

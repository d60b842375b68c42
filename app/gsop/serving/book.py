"""What the supervisor knows of versions, and the one place from which it tells everybody.

Each change ends in two texts in the service's memory: ``traffic``, which every request is spread
by, and ``versions``, which ``GET /models`` shows.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gsop.arena.counters import forget, totals
from gsop.arena.families import MOST_VERSIONS
from gsop.arena.service import ServiceMemory
from gsop.arena.service_board import SupervisorBoard
from gsop.errors import Conflict, UnknownModel
from gsop.serving.desired import Desired, DesiredFile, DesiredModel
from gsop.serving.status import (
    MOST_CHANGES,
    Change,
    ComparisonReport,
    ServiceStatus,
    VersionState,
    VersionStatus,
)
from gsop.serving.traffic import Routing, Shares, Traffic
from gsop.store.manifest import Manifest

log = logging.getLogger("gsop.supervisor")

Key = tuple[str, str]
"""A model's name and a version's."""

MOST_STATUSES = 64
"""Versions whose states are told; of more, those that were never loaded are forgotten first."""


class Begun(NamedTuple):
    """Where a comparison of versions began.

    Attributes:
        time: Unix time.
        counters: of the whole service, then.
    """

    time: float
    counters: npt.NDArray[np.float64]


class VersionBook:
    """The state of every version and the shares of every model.

    Its methods may be called in any thread; whoever does several things that belong together holds
    :attr:`lock` meanwhile.

    Args:
        memory: the service's.
        board: where it is told.
        manifests: the versions that the service starts with, the default first.
        desired: where what is wanted is kept, if it is.

    Attributes:
        lock: re-entrant.
        manifests: of the versions that are loaded.
    """

    def __init__(
        self,
        memory: ServiceMemory,
        board: SupervisorBoard,
        manifests: Sequence[Manifest],
        desired: DesiredFile | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self.manifests: dict[Key, Manifest] = {(m.name, m.version): m for m in manifests}
        self._memory = memory
        self._board = board
        self._desired = desired
        self._places = {key: place for place, key in enumerate(self.manifests)}
        self._status: dict[Key, VersionStatus] = {}
        self._shares: dict[str, Shares] = {}
        self._changes: deque[Change] = deque(maxlen=MOST_CHANGES)
        self._comparisons: Mapping[str, tuple[ComparisonReport, ...]] = {}
        self._rollbacks: dict[str, dict[str, int]] = {}
        self._generation, self._memory_bytes = 1, 0
        self._runs = 0
        self._begun: dict[int, Begun] = {}
        self._kept = desired is not None
        for name, version in self.manifests:
            self.enter((name, version), "loading")
            if name not in self._shares:
                self.share(name, Traffic(stable=version))

    # ── versions ─────────────────────────────────────────────────────────────────────────────

    def status(self, key: Key) -> VersionStatus:
        """Where a version is that was ever spoken of."""
        with self.lock:
            return self._status[key]

    def enter(
        self,
        key: Key,
        state: VersionState,
        *,
        seconds: float | None = None,
        error: str | None = None,
    ) -> None:
        """A version has come to a state; nothing happens if it is there."""
        with self.lock:
            known = self._status.pop(key, None)
            if known is not None and known.state == state and error is None:
                self._status[key] = known
                return
            self._status[key] = VersionStatus(
                name=key[0],
                version=key[1],
                state=state,
                place=self._places.get(key),
                since=time.time(),
                seconds=seconds,
                error=error,
            )
            spare = [k for k in self._status if k not in self._places]
            for oldest in spare[: max(0, len(self._status) - MOST_STATUSES)]:
                del self._status[oldest]
            self.tell()

    def place(self, key: Key) -> int:
        """The number under which a version is counted: its own, a new one, or that of another.

        Raises:
            Conflict: if there are as many versions as there are numbers.
        """
        with self.lock:
            if key in self._places:
                return self._places[key]
            free = set(range(MOST_VERSIONS)) - set(self._places.values())
            if not free:
                gone = [k for k in self._status if k in self._places and k not in self.manifests]
                if not gone:
                    raise Conflict(
                        f"{MOST_VERSIONS} versions are loaded, and more cannot be: unload one first"
                    )
                del self._status[gone[0]]  # it is the longest gone: each change puts one last
                free = {self._places.pop(gone[0])}
                forget(self._memory, min(free))
            self._places[key] = min(free)
            return min(free)

    def loaded(self, manifests: Mapping[Key, Manifest], generation: int, memory: int) -> None:
        """These versions are loaded now, by engines that take so much memory."""
        with self.lock:
            self.manifests = dict(manifests)
            self.measured(generation, memory)
            self._keep()

    def measured(self, generation: int, memory: int) -> None:
        """The present generation, and what the engines of all generations take, in bytes."""
        with self.lock:
            self._generation, self._memory_bytes = generation, memory
            self.tell()

    # ── traffic ──────────────────────────────────────────────────────────────────────────────

    @property
    def all_shares(self) -> dict[str, Shares]:
        """The shares of every model, the default first."""
        with self.lock:
            return dict(self._shares)

    def shares(self, name: str) -> Shares:
        """How a model's requests are spread.

        Raises:
            UnknownModel: if none of its versions is loaded.
        """
        with self.lock:
            if name not in self._shares:
                raise UnknownModel(f"no version of {name!r} is loaded")
            return self._shares[name]

    def share(self, name: str, traffic: Traffic) -> Shares:
        """Spread a model's requests in that way, from the next request on."""
        with self.lock:
            before = self._shares.get(name)
            if before is not None and before.traffic.pair == traffic.pair:
                run = before.run
            else:
                self._runs = run = self._runs + 1
                self._begun.pop(before.run if before is not None else 0, None)
                self._begun[run] = Begun(time.time(), totals(self._memory))
            revision = 1 if before is None else before.revision + 1
            self._shares[name] = Shares(revision, run, traffic)
            self._tell_traffic()
            return self._shares[name]

    def begun(self, run: int) -> "Begun":
        """Where a comparison of versions that is under way began."""
        with self.lock:
            return self._begun[run]

    def take_out(self, name: str) -> None:
        """The model gets no requests any more."""
        with self.lock:
            del self._shares[name]
            self._tell_traffic()

    # ── what was done and found ──────────────────────────────────────────────────────────────

    def changed(self, name: str, who: str, what: str) -> None:
        """Remember a change, and keep what is wanted from now on."""
        with self.lock:
            log.info("%s: %s (%s)", name, what, who)
            self._changes.appendleft(Change(time=time.time(), who=who, what=what, model=name))
            self._keep()
            self.tell()

    def compared(self, reports: Mapping[str, tuple[ComparisonReport, ...]]) -> None:
        """How versions compare, by model."""
        with self.lock:
            if reports or self._comparisons:
                self._comparisons = reports
                self.tell()

    def rolled_back(self, name: str, reason: str) -> None:
        """Count that the service has taken back a share by itself."""
        with self.lock:
            counts = self._rollbacks.setdefault(name, {})
            counts[reason] = counts.get(reason, 0) + 1

    def tell(self) -> None:
        """Write what ``GET /models`` shows."""
        with self.lock:
            status = ServiceStatus(
                generation=self._generation,
                kept=self._kept,
                memory_bytes=self._memory_bytes,
                versions=tuple(self._status.values()),
                changes=tuple(self._changes),
                comparisons=dict(self._comparisons),
                rollbacks=self._rollbacks,
            )
            self._board.versions.write(status.model_dump_json().encode())

    def _tell_traffic(self) -> None:
        routing = Routing(default=next(iter(self._shares), ""), models=self._shares)
        self._board.traffic.write(routing.model_dump_json().encode())

    def _keep(self) -> None:
        if self._desired is None:
            return
        models = {}
        for name, shares in self._shares.items():
            named = shares.traffic.versions
            loaded = [v for n, v in self.manifests if n == name and v not in named]
            models[name] = DesiredModel(**shares.traffic.model_dump(), loaded=tuple(loaded))
        self._kept = self._desired.write(Desired(models=models))

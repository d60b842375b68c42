"""Looks every second at what versions do beside each other, tells it, and takes shares back."""

import logging
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from gsop.arena.comparisons import comparison
from gsop.arena.counters import totals
from gsop.arena.families import (
    INFERENCE_SECONDS,
    PREDICTION_SECONDS,
    PREDICTIONS,
    SECONDS,
    Family,
    Ledger,
)
from gsop.errors import (
    Conflict,
    DeadlineExceeded,
    DeviceOutOfMemory,
    EngineCrashed,
    NonFiniteOutput,
    UnknownModel,
)
from gsop.serving.book import Begun, Key
from gsop.serving.compare import report, side
from gsop.serving.judge import Judge, Seen, Verdict
from gsop.serving.status import ComparisonReport, Side
from gsop.serving.supervisor import Supervisor
from gsop.serving.traffic import Shares
from gsop.serving.versions import Versions

log = logging.getLogger("gsop.supervisor")

LOOK_SECONDS = 1.0

FAILURES = tuple(
    error.code for error in (NonFiniteOutput, EngineCrashed, DeviceOutOfMemory, DeadlineExceeded)
)
"""What is laid to a version: never what a client has done wrong."""

Row = npt.NDArray[np.float64]


class _Run(NamedTuple):
    """A comparison that is under way.

    Attributes:
        number: which one.
        begun: where it began.
        deaths: the engines' deaths then, by place.
        judge: of the canary.
    """

    number: int
    begun: Begun
    deaths: Mapping[int, int]
    judge: Judge


class Watch:
    """Compares the versions of every model that has more than one in its traffic."""

    def __init__(self, supervisor: Supervisor, versions: Versions) -> None:
        self._supervisor = supervisor
        self._versions = versions
        self._ledger = Ledger.of(supervisor.memory.plan.routes)
        self._runs: dict[tuple[str, str], _Run] = {}
        self._verdicts: dict[tuple[str, int], Verdict] = {}

    def run(self, is_stopping: Callable[[float], bool]) -> None:
        """Look again and again, until that says so after some seconds."""
        while not is_stopping(LOOK_SECONDS):
            try:
                self.look()
            except Exception:  # a defect here must not end what guards the next canary
                log.exception("the comparison of versions ran into a defect")

    def look(self) -> None:
        """Once."""
        with self._versions.book.lock:  # what is compared must not be replaced meanwhile
            self._look()

    def _look(self) -> None:
        now = totals(self._supervisor.memory)
        reports: dict[str, tuple[ComparisonReport, ...]] = {}
        for name, shares in self._versions.book.all_shares.items():
            found = [
                self._compare(name, shares, version, role, now)
                for version, role in shares.traffic.compared
            ]
            if found:
                reports[name] = tuple(found)
        self._versions.book.compared(reports)

    def _compare(
        self,
        name: str,
        shares: Shares,
        version: str,
        role: Literal["canary", "shadow"],
        now: Row,
    ) -> ComparisonReport:
        run = self._of(name, version, shares.run)
        book, traffic = self._versions.book, shares.traffic
        places = book.place((name, traffic.stable)), book.place((name, version))
        usual = self._seen(run, (name, traffic.stable), "stable", now)
        its = self._seen(run, (name, version), role, now)
        if role == "canary" and traffic.percent and traffic.auto_rollback:
            self._judge(name, shares, run.judge.look(usual, its))
        verdict = self._verdicts.get((name, shares.run))
        return report(
            run=shares.run,
            since=run.begun.time,
            stable=self._side(run, traffic.stable, places[0], "stable", usual, now),
            other=self._side(run, version, places[1], role, its, now),
            role=role,
            pairs=comparison(self._supervisor.memory, places[1], shares.run),
            verdict=None if verdict is None or role == "shadow" else verdict.text,
        )

    def _judge(self, name: str, shares: Shares, verdict: Verdict | None) -> None:
        if verdict is None:
            return
        self._verdicts[name, shares.run] = verdict
        try:
            self._versions.shares.rollback(
                name,
                who="the service",
                reason=f"{verdict.reason}: {verdict.text}",
                revision=shares.revision,
            )
        except (Conflict, UnknownModel):  # somebody was quicker
            return
        self._versions.book.rolled_back(name, verdict.reason)

    def _of(self, name: str, version: str, number: int) -> _Run:
        known = self._runs.get((name, version))
        if known is None or known.number != number:
            begun = self._versions.book.begun(number)
            known = _Run(number, begun, self._supervisor.deaths(), Judge(SECONDS))
            self._runs[name, version] = known
        return known

    def _seen(self, run: _Run, key: Key, role: str, now: Row) -> Seen:
        place = self._versions.book.place(key)
        codes = {
            labels[2]: self._since(run, now, PREDICTIONS, labels)[0]
            for labels, _ in self._ledger.rows(PREDICTIONS)
            if labels[:2] == (str(place), role)
        }
        own = codes["ok"] + sum(codes[code] for code in FAILURES)  # the rest is its callers'
        deaths = self._supervisor.deaths().get(place, 0) - run.deaths.get(place, 0)
        buckets = self._since(run, now, INFERENCE_SECONDS, (str(place), role))[:-1]
        return Seen(int(own), int(own - codes["ok"]), deaths, buckets, self._drift(key))

    def _drift(self, key: Key) -> float | None:
        """How far a version's gates are from the reference that it brings.

        A learned one says nothing of the version: it was learned from what is to be judged.
        """
        engines = self._supervisor.present
        for index, manifest in enumerate(engines.deployment.manifests):
            if (manifest.name, manifest.version) == key:
                status = engines.drift.status(index)
                return None if status.is_learned else status.score
        return None

    def _side(self, run: _Run, version: str, place: int, role: str, seen: Seen, now: Row) -> Side:
        took = self._since(run, now, PREDICTION_SECONDS, (str(place), role))
        answers = took[:-1].sum()
        return side(version, seen, float(took[-1] / answers) if answers else None)

    def _since(self, run: _Run, now: Row, family: Family, labels: tuple[str, ...]) -> Row:
        """What was counted since the comparison began: a histogram's buckets, then its sum."""
        at = self._ledger.places[family, labels]
        part = slice(at, at + family.width)
        return now[part] - run.begun.counters[part]

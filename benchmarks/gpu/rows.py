"""Findings as rows, each with what it should be."""

import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.summary import markdown


@dataclass(frozen=True)
class Row:
    """One finding.

    Attributes:
        what: was looked at.
        found: with its unit.
        goal: what it should be; empty where there is none.
        passed: whether it is; ``None`` where there is no goal.
        skipped: whether it was not looked at; ``found`` says why.
    """

    what: str
    found: str
    goal: str = ""
    passed: bool | None = None
    skipped: bool = False

    @property
    def verdict(self) -> str:
        """``pass``, ``FAIL``, ``skip``, or nothing."""
        if self.skipped:
            return "skip"
        return "" if self.passed is None else "pass" if self.passed else "FAIL"


@dataclass
class Report:
    """Rows, each printed as soon as it is known."""

    rows: list[Row] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def tell(self, what: str, found: object) -> None:
        """A finding without a goal."""
        self._add(Row(what, str(found)))

    def skip(self, what: str, reason: str) -> None:
        """What is not looked at, and why."""
        self._add(Row(what, reason, skipped=True))

    @property
    def seconds(self) -> float:
        """Since it was begun."""
        return time.monotonic() - self.began

    def check(self, what: str, passed: bool, found: object, goal: str) -> None:
        """A finding that is as it should be, or not."""
        self._add(Row(what, str(found), goal, bool(passed)))

    def at_most(self, what: str, value: float, most: float, form: str = "{:.4g}") -> None:
        """A number that should not be larger; one that is none fails."""
        passed = math.isfinite(value) and value <= most
        self.check(what, passed, form.format(value), f"at most {form.format(most)}")

    def at_least(self, what: str, value: float, least: float, form: str = "{:.4g}") -> None:
        """A number that should not be smaller; one that is none fails."""
        passed = math.isfinite(value) and value >= least
        self.check(what, passed, form.format(value), f"at least {form.format(least)}")

    @property
    def failed(self) -> list[Row]:
        """The rows that are not as they should be."""
        return [row for row in self.rows if row.passed is False]

    def table(self) -> str:
        """All rows."""
        cells = [[row.what, row.found, row.goal, row.verdict] for row in self.rows]
        return markdown(("", "found", "goal", ""), cells)

    def content(self) -> list[dict[str, Any]]:
        """All rows, for a file."""
        return [asdict(row) for row in self.rows]

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        goal = f"   ({row.goal})" if row.goal else ""
        print(f"{self.seconds:4.0f} s  {row.verdict:4}  {row.what}: {row.found}{goal}", flush=True)

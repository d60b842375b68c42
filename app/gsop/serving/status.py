"""What the supervisor tells of versions: where each is on its way, and what was changed of late."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

VersionState = Literal["loading", "warming", "ready", "draining", "unloaded", "failed"]

MOST_CHANGES = 20
"""Newest changes that are remembered."""


class VersionStatus(BaseModel):
    """Where one version is.

    Attributes:
        name: of the model.
        version: of it.
        state: of the version.
        place: the number under which it is counted; ``None`` where it never was loaded.
        since: Unix time in seconds at which it came to the state.
        seconds: that its load took, once it is ready.
        error: why it failed; for operators.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    state: VersionState
    place: int | None = None
    since: float
    seconds: float | None = None
    error: str | None = None


class Change(BaseModel):
    """Something that was changed.

    Attributes:
        time: Unix time in seconds.
        who: the name of the API key, ``anybody`` where there are no keys, or what did it by itself.
        what: in words.
        model: whose.
    """

    model_config = ConfigDict(frozen=True)

    time: float
    who: str
    what: str
    model: str


class Estimate(BaseModel):
    """A figure and the interval in which it lies, with 95 % confidence."""

    value: float
    low: float
    high: float


class Side(BaseModel):
    """What one of two versions did since they are compared.

    Attributes:
        version: of the model.
        answered: images, failed ones included.
        failures: of them by fault of the version.
        failure_rate: share of them.
        seconds: mean time from submission to answer.
        p95_seconds: 95 of 100 took at most as long on the device.
        engine_deaths: while a batch of the version ran.
    """

    version: str
    answered: int
    failures: int
    failure_rate: Estimate | None
    seconds: float | None
    p95_seconds: float | None
    engine_deaths: int


class ComparisonReport(BaseModel):
    """A model's stable version beside its canary or shadow.

    Attributes:
        run: which comparison it is.
        since: Unix time in seconds.
        stable: one side.
        other: the other.
        role: of the other.
        pairs: images that both have answered.
        agreement: share of them with the same class.
        probability_change: mean ``|Δp|`` of the stable version's class.
        gate_distance: mean ``|Δ|`` of the gates, where the networks have the same.
        verdict: why the other is worse, if it is.
    """

    run: int
    since: float
    stable: Side
    other: Side
    role: Literal["canary", "shadow"]
    pairs: int
    agreement: Estimate | None
    probability_change: Estimate | None
    gate_distance: Estimate | None
    verdict: str | None = None


class ServiceStatus(BaseModel):
    """What ``versions`` in the service's memory says.

    Attributes:
        generation: the present one.
        kept: whether changes outlive the service.
        memory_bytes: of the engines' processes, all generations together.
        versions: those that are or were loaded, or failed.
        changes: newest first.
        comparisons: by model.
        rollbacks: by model and reason, how often the service took a share back by itself.
    """

    model_config = ConfigDict(frozen=True)

    generation: int = 0
    kept: bool = False
    memory_bytes: int = 0
    versions: tuple[VersionStatus, ...] = ()
    changes: tuple[Change, ...] = ()
    comparisons: dict[str, tuple[ComparisonReport, ...]] = Field(default_factory=dict)
    rollbacks: dict[str, dict[str, int]] = Field(default_factory=dict)

    @classmethod
    def parse(cls, text: bytes) -> "ServiceStatus":
        """The inverse of ``model_dump_json``; of no text, that of no version."""
        return cls.model_validate_json(text) if text else cls()

    def find(self, name: str, version: str) -> VersionStatus | None:
        """The status of a version, if anything is known of it."""
        return next((v for v in self.versions if (v.name, v.version) == (name, version)), None)

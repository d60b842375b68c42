"""The shapes of requests and answers, as OpenAPI and its readers see them.

The answers on the hot path are written straight to JSON (``rendering.py``); the tests hold them to
these shapes.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gsop.arena.states import EngineState
from gsop.serving.status import ComparisonReport, VersionState
from gsop.serving.traffic import Traffic

FAMILIARITY = (
    "Of the images that the version was measured on, the share whose gates are as unlike those of "
    "the others of the answer's class as this image's: near 0 the image is unlike all that the "
    "version knows, whatever it answers. `null` if the version brings no reference."
)


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(default="about:blank", description="`about:blank`: see `code`.")
    title: str
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong, and what to do about it.")
    code: str = Field(description="A stable name for programs to branch on.")


class PreprocessQuery(BaseModel):
    """The query of ``POST /preprocess``."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(
        None, description="A loaded model, or `name/version`; the default one if absent."
    )
    version: str | None = Field(None, description="Its version.")
    timeout_ms: int | None = Field(
        None,
        ge=1,
        le=3_600_000,
        description="Milliseconds until the answer is worthless; `GSOP_TIMEOUT_MS` if absent.",
    )


class PredictQuery(PreprocessQuery):
    """The query of ``POST /predict``."""

    top_k: int = Field(
        5, ge=1, le=1_000_000, description="Predictions to list; clamped to the classes there are."
    )
    attention: bool = Field(False, description="Whether to return the gates of every stage.")
    familiarity: bool = Field(
        False, description="Whether to say how familiar the gates of the answer are."
    )


class AttentionQuery(BaseModel):
    """The query of ``GET /attention``."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    model: str | None = Field(
        None, description="A loaded model, or `name/version`; the default one if absent."
    )
    version: str | None = Field(None, description="Its version.")
    stage: str | None = Field(None, description="Only this stage, such as `layer1`.")
    class_: str | None = Field(
        None, alias="class", description="Only predictions of this class (its id or label)."
    )


class ModelRef(BaseModel):
    """A model version's name."""

    name: str
    version: str


class ClassPrediction(BaseModel):
    """One class and its probability."""

    class_id: int
    label: str
    probability: float = Field(ge=0, le=1)


Numbers = list[float] | list[list[float]]


class GateHeader(BaseModel):
    """Which gate it is."""

    stage: str = Field(examples=["layer1"])
    block: str = Field(examples=["layer1.1"], description="The residual block that it gates.")
    kind: Literal["channel", "position"]
    shape: list[int] = Field(description="`[C]` for channels, `[H, W]` for positions.")


class Gate(GateHeader):
    """One gate of one prediction."""

    gate: Numbers = Field(description="Weights in (0, 1), in the gate's shape.")


class RecordedGate(Gate):
    """One gate of an earlier prediction."""

    z: Numbers | None = Field(
        description="How far each value is from the mean of the predicted class, as logits, in "
        "deviations within a class of the version's reference; `null` if it brings none."
    )


class Timing(BaseModel):
    """Where the time went, in milliseconds."""

    decode: float
    queue: float = Field(description="From the decoded image to the start of its batch.")
    inference: float = Field(description="From the start of the batch to its end.")
    total: float = Field(description="From the request's head to the answer.")


class Prediction(BaseModel):
    """The answer for one image."""

    id: str = Field(description="For `GET /attention/{id}`.")
    model: ModelRef
    role: Literal["stable", "canary", "requested"] = Field(
        description="Why this version answered: it is its model's usual one, it is on trial, or "
        "the request names it."
    )
    predictions: list[ClassPrediction]
    attention: list[Gate] | None = Field(description="`null` unless asked for.")
    familiarity: float | None = Field(
        ge=0, le=1, description=f"{FAMILIARITY} `null` unless asked for."
    )
    timing_ms: Timing


class Result(BaseModel):
    """What became of one image among several: one of the two is `null`."""

    prediction: Prediction | None
    error: Problem | None


class Results(BaseModel):
    """The answer to several images in one request, in their order."""

    results: list[Result]


class GateSummary(GateHeader):
    """One gate over many predictions; the vectors are `null` while there is none."""

    mean: Numbers | None
    std: Numbers | None
    min: Numbers | None
    max: Numbers | None


class RecentPrediction(BaseModel):
    """One of the newest predictions."""

    id: str
    time: datetime
    label: str
    probability: float


class AttentionStatistics(BaseModel):
    """Live statistics of the gates."""

    model: ModelRef
    samples: int
    since: datetime
    instances: int = Field(
        description="Whose predictions are counted: more than one where instances share theirs."
    )
    stages: list[GateSummary]
    recent: list[RecentPrediction]


class AttentionRecord(BaseModel):
    """The gates of one earlier prediction."""

    id: str
    model: ModelRef
    time: datetime
    predictions: list[ClassPrediction]
    familiarity: float | None = Field(ge=0, le=1, description=FAMILIARITY)
    stages: list[RecordedGate]


class ModelSummary(ModelRef):
    """A version in the store."""

    loaded: bool = Field(description="Whether it answers requests.")
    default: bool = Field(description="Whether it answers requests that name no model.")
    state: VersionState | None = Field(
        default=None, description="Where it is on its way; `null` if it never was to be loaded."
    )
    error: str | None = Field(
        default=None, description="Why it cannot be served; the log says more."
    )
    classes: int | None = None
    input: dict[str, Any] | None = None
    metrics: dict[str, Any] | None = None
    temperature: float | None = Field(
        default=None,
        description="That logits are divided by before the softmax, fitted on held-out images so "
        "that probabilities can be believed; 1: nothing was fitted.",
    )
    created: datetime | None = None


class ModelList(BaseModel):
    """The store's content."""

    models: list[ModelSummary]


class ModelVersion(ModelSummary):
    """A version with everything that its manifest says."""

    config: dict[str, Any] | None = None
    labels: list[str] | None = None
    gates: list[GateHeader] | None = None
    provenance: dict[str, Any] | None = None
    sha256: str | None = None


class ChangeEntry(BaseModel):
    """Something that was changed about a model."""

    time: datetime
    who: str = Field(description="The name of an API key, or what did it by itself.")
    what: str


class Model(BaseModel):
    """All versions of a model, oldest first, and how requests are spread over them."""

    name: str
    versions: list[ModelVersion]
    traffic: Traffic | None = Field(
        default=None, description="The shares that are wanted; `null` if no version is loaded."
    )
    canary_percent: float | None = Field(
        default=None, description="The share that the canary has had since it is one."
    )
    kept: bool = Field(
        default=False, description="Whether changes outlive the service (`GSOP_STATE`)."
    )
    changes: list[ChangeEntry] = Field(default=[], description="The newest, newest first.")


class LoadOptions(BaseModel):
    """How a version is loaded."""

    model_config = ConfigDict(extra="forbid")

    policy: Literal["availability", "resource"] = Field(
        default="availability",
        description="`availability`: beside those that serve, which needs memory for both. "
        "`resource`: after the engines that serve were ended; requests wait meanwhile.",
    )
    sha256: str | None = Field(
        default=None, pattern="^[0-9a-f]{64}$", description="Of the weights that it must have."
    )


class VersionNow(ModelRef):
    """A version after it was loaded or unloaded."""

    state: VersionState
    seconds: float | None = Field(description="That its load took.")
    engines_memory_bytes: int = Field(
        description="That all engines take, those included that are about to go."
    )


class TrafficNow(Traffic):
    """A model's shares after a change."""

    revision: int = Field(description="The tag for the next change.")


class Comparisons(BaseModel):
    """A model's stable version beside its canary and its shadow."""

    model: str
    comparisons: list[ComparisonReport]


class EngineHealth(BaseModel):
    """One engine."""

    engine: int
    state: Annotated[str, Field(json_schema_extra={"enum": [s.name.lower() for s in EngineState]})]
    device: str
    precision: str
    epoch: int = Field(description="How often it has become ready.")
    restarts: int = Field(description="How often its process was replaced.")


class Health(BaseModel):
    """Whether the service is well."""

    status: Literal["alive", "ready"]
    instance: str = Field(description="What the ids of its predictions begin with.")
    engines: list[EngineHealth]


class Slots(BaseModel):
    """The places for images."""

    used: int
    total: int


class EngineNow(BaseModel):
    """What an engine does."""

    state: str
    device: str
    precision: str
    restarts: int
    batch_limit: int = Field(description="Most images that it puts into a batch.")


class Counted(BaseModel):
    """A histogram, since the service's start."""

    count: int
    sum: float
    bounds: list[float] = Field(description="Upper bounds of the buckets, without infinity.")
    buckets: list[int] = Field(description="One more than bounds; each counts its own alone.")


class Span(Counted):
    """Time that images spent in one part of their way, in seconds."""

    name: Literal["read", "decode", "queue", "inference", "total"]


class VersionActivity(BaseModel):
    """A version that is loaded, or was spoken of."""

    name: str
    version: str
    state: str
    percent_by_role: dict[str, float] = Field(description="What it is to get of the requests.")
    answered: int = Field(description="Images.")
    seconds: float = Field(description="That they took from submission to answer, together.")
    drift: float | None = Field(
        description="Evidence that its gates are not its reference's, over the limit: above 1 it "
        "is drift. `null` until there are two windows."
    )


class ServiceNow(BaseModel):
    """The service now; counts are since its start."""

    time: float = Field(description="Unix time.")
    phase: str
    generation: int
    slots: Slots
    engines: list[EngineNow]
    images: dict[str, int] = Field(description="By what became of them.")
    spans: list[Span]
    batches: Counted = Field(description="By the images in them.")
    versions: list[VersionActivity]

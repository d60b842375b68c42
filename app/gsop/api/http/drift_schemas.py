"""The shapes of ``GET /models/{name}/drift``."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gsop.api.http.schemas import GateHeader, ModelRef, Numbers


class DriftQueryParameters(BaseModel):
    """The query of ``GET /models/{name}/drift``."""

    model_config = ConfigDict(extra="forbid")

    version: str | None = Field(None, description="A loaded version; the stable one if absent.")
    stage: str | None = Field(None, description="Only this stage, such as `layer1`.")


class DriftReference(BaseModel):
    """What live gates are compared with."""

    kind: Literal["published", "learned"] = Field(
        description="`published`: it came with the version, and is of images that training never "
        "saw. `learned`: of the first images that were served, right or wrong ones."
    )
    what: str = Field(description="Which images they were.")
    images: int
    made: datetime
    limit: float = Field(description="The evidence, in standard errors, that is drift.")
    digest: str


class DriftLearning(BaseModel):
    """How far a reference is that is being learned."""

    images: int
    wanted: int


class DriftWindow(BaseModel):
    """The newest window of served images."""

    images: int = Field(description="Different ones.")
    began: datetime
    ended: datetime
    repeats: float = Field(description="How many of them say as much as one independent image.")
    complete: bool = Field(description="One that is not is shown, but judges nothing.")
    score: float = Field(description="Of this window alone.")


class DriftedNumber(BaseModel):
    """One number of a gate."""

    stage: str
    block: str
    kind: Literal["channel", "position"]
    place: list[int] = Field(description="Which of the gate: `[c]`, or `[y, x]`.")
    reference: float
    live: float
    shift: float
    evidence: float


class DriftedGate(GateHeader):
    """One gate in the window, beside the reference; the vectors are `null` while there is none."""

    reference: Numbers | None = Field(
        description="The mean gate that images of the same classes should have."
    )
    live: Numbers | None = Field(description="The mean gate that they have.")
    shift: Numbers | None = Field(
        description="How far off it is, as logits, in deviations of the gate within a class."
    )
    evidence: Numbers | None = Field(
        description="The shift in standard errors, over the limit: beyond 1 or -1 it is drift."
    )


class DriftClass(BaseModel):
    """How often a class is predicted."""

    class_id: int
    label: str
    reference: float = Field(description="Share of the reference's images.")
    live: float | None = Field(description="Share of the window's images.")


class DriftReport(BaseModel):
    """How far a version's gates are from its reference."""

    model: ModelRef
    score: float | None = Field(
        description="The largest evidence for drift over its limit, the lesser of the last two "
        "windows': above 1 the images have changed. `null` until there are two."
    )
    images: int = Field(description="Different images that were compared.")
    reference: DriftReference | None
    learning: DriftLearning | None
    window: DriftWindow | None
    largest: list[DriftedNumber] = Field(description="The numbers with the most evidence.")
    stages: list[DriftedGate]
    classes: list[DriftClass] | None = Field(
        description="Changed shares are no drift. `null` without the scope `admin`."
    )

"""The shapes of ``POST /inspect``."""

from typing import Literal

from pydantic import BaseModel, Field

from gsop.api.http.schemas import ClassPrediction, Gate, ModelRef, Numbers, PreprocessQuery


class InspectQuery(PreprocessQuery):
    """The query of ``POST /inspect``."""

    gate: str | None = Field(
        None,
        max_length=100,
        description="Whose channels are closed one by one, such as `layer4.1.channel`; the last "
        "one if absent, `none` for nobody's.",
    )
    top_k: int = Field(
        5, ge=1, le=1_000_000, description="Predictions to list; clamped to the classes there are."
    )
    matrices: bool = Field(False, description="Whether JSON holds the covariances too.")


class InspectedGate(Gate):
    """One gate, and what it was made of."""

    logits: list[float] = Field(
        description="Before the sigmoid: one a channel, or one for each of the 8 × 8 places that a "
        "map of positions is enlarged from."
    )
    spectrum: list[float] | None = Field(
        description="Eigenvalues of the covariance, from the greatest; `null` for a gate that is "
        "made of none."
    )
    effective_rank: float | None = Field(description="(Σλ)² / Σλ².")
    matrix: Numbers | None = Field(description="The covariance; `null` unless asked for.")


class Ablation(BaseModel):
    """What the answer would be with other gates."""

    stage: str = Field(description="Whose gates were replaced; `all` for those of all stages.")
    way: Literal["open", "closed", "mean", "other"] = Field(
        description="By 1, by 0, by each gate's own mean, or by the second image's."
    )
    prediction: ClassPrediction = Field(description="The likeliest class then.")
    probability: float = Field(description="Of the class that is answered with its own gates.")
    logit: float = Field(description="Of that class.")


class SwitchedChannels(BaseModel):
    """What the answer would be with each channel of a gate closed alone."""

    gate: str
    class_id: int = Field(description="The class that is asked about: the answer.")
    logit: float = Field(description="Of that class, with all gates as they are.")
    probability: float
    effects: list[float] = Field(description="By how much that logit is lower, for each channel.")
    probabilities: list[float] = Field(description="Of the class, with each channel closed.")
    strongest: list[int] = Field(description="The channels with the greatest effects, in order.")


class InspectionAnswer(BaseModel):
    """One answer taken apart."""

    model: ModelRef
    predictions: list[ClassPrediction]
    gates: list[InspectedGate]
    ablations: list[Ablation]
    channels: list[SwitchedChannels]

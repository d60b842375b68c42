"""What a network wants of its images."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

Interpolation = Literal["bilinear", "bicubic"]
Channels = tuple[FiniteFloat, FiniteFloat, FiniteFloat]


class InputSpec(BaseModel):
    """How an image becomes a network's input.

    The short side is scaled to ``resize``, the centre ``height`` × ``width`` is cropped, and the
    engine computes ``(pixel / 255 - mean) / std`` for each of R, G, B. When the image shrinks,
    pixels are averaged over their area; ``interpolation`` is how it is enlarged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)
    resize: int = Field(ge=1, le=8192)
    mean: Channels
    std: Channels
    interpolation: Interpolation = "bilinear"

    @model_validator(mode="after")
    def _crop_fits(self) -> "InputSpec":
        if self.resize < max(self.height, self.width):
            raise ValueError(
                f"resize {self.resize} is smaller than the crop {self.height}x{self.width}"
            )
        if min(self.std) <= 0:
            raise ValueError("every std must be positive")
        return self

"""Which images a training reads, and how it varies them, as plain data."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gsop.train.data.drawing import DrawingSpec


class Values(BaseModel):
    """Plain data of a recipe: never changed, and nothing in it that is unknown or not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSpec(Values):
    """Which images.

    Attributes:
        kind: ``folder`` (a folder for each class), ``cifar100`` (as torchvision stores it),
            ``digits`` (scikit-learn's), or ``textures`` (drawn by the project).
        path: where they lie; of ``digits`` and ``textures`` nothing lies anywhere.
        validation: share of each class that is held out of a folder without ``val/``.
        split_seed: decides which.
    """

    kind: Literal["folder", "cifar100", "digits", "textures"]
    path: Path | None = None
    validation: float = Field(default=0.1, gt=0, lt=1)
    split_seed: int = Field(default=0, ge=0)


class BalanceSpec(Values):
    """What is done about classes with few images.

    Attributes:
        draw: how far the classes are drawn alike: 0 as often as they have images, 1 all equally
            often, ½ by the square root of their images. A pass stays as long as it was.
        loss: how far the loss weighs rare classes up: 0 not, 1 so that all count the same, ½ by
            the square root; of the classes as they are drawn.
    """

    draw: float = Field(default=0.0, ge=0, le=1)
    loss: float = Field(default=0.0, ge=0, le=1)


class RandomCropSpec(Values):
    """A random rectangle, scaled to the network's input (arXiv 1409.4842, section 6).

    Attributes:
        scale: its share of the image's area, uniform between the two.
        ratio: its width by its height, log-uniform between the two.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)


class RandAugmentSpec(Values):
    """RandAugment (arXiv 1909.13719): some random operations of one strength.

    Attributes:
        operations: how many, one after the other.
        magnitude: how strong, 0 to 30.
    """

    operations: int = Field(default=2, ge=1)
    magnitude: int = Field(default=9, ge=0, le=30)


class AugmentSpec(Values):
    """How a training image strays from what lies on the disk; what is not set is not done.

    Attributes:
        random_crop: cut a random rectangle; without, the image is cut as in service.
        pad_crop: pixels of black around the image, of which then a random part is cut.
        flip: mirror every other image, left to right.
        rand_augment: some random operations besides. Needs torchvision.
        drawing: of the digits only: draw the scan as a hand might.
    """

    random_crop: RandomCropSpec | None = None
    pad_crop: int = Field(default=0, ge=0)
    flip: bool = False
    rand_augment: RandAugmentSpec | None = None
    drawing: DrawingSpec | None = None

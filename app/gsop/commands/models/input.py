"""How images are prepared for a new version: what was trained with, changed by options."""

from dataclasses import dataclass

from pydantic import ValidationError

from gsop.errors import ConfigError
from gsop.images import Channels, InputSpec, Interpolation
from gsop.model.config import Stem
from gsop.store.manifest import validation_reasons

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

USUAL_INPUTS: dict[Stem, InputSpec] = {
    "imagenet": InputSpec(height=224, width=224, resize=256, mean=_MEAN, std=_STD),
    "cifar": InputSpec(height=32, width=32, resize=32, mean=_MEAN, std=_STD),
}
"""What networks with either stem are evaluated with (paper, section 4), in ImageNet's colours."""


@dataclass(frozen=True)
class InputOptions:
    """What the command line asks for; ``None`` where it is silent.

    Attributes:
        size: height and width of the crop.
        resize: the short side that the crop is cut from; it grows with ``size`` if absent.
        mean: of R, G and B, 0 to 1.
        std: of R, G and B.
        interpolation: how an image is enlarged.
    """

    size: int | None = None
    resize: int | None = None
    mean: Channels | None = None
    std: Channels | None = None
    interpolation: Interpolation | None = None

    def applied_to(self, usual: InputSpec) -> InputSpec:
        """``usual``, with all that is asked for changed.

        Raises:
            ConfigError: if no image can be prepared so.
        """
        size = usual.height if self.size is None else self.size
        scaled = round(usual.resize * size / usual.height)
        try:
            return InputSpec(
                height=size,
                width=size,
                resize=scaled if self.resize is None else self.resize,
                mean=self.mean or usual.mean,
                std=self.std or usual.std,
                interpolation=self.interpolation or usual.interpolation,
            )
        except ValidationError as error:
            raise ConfigError(
                f"no image can be prepared so ({validation_reasons(error)}): change --size, "
                "--resize, --mean or --std"
            ) from error

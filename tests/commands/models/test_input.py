import pytest

from gsop.commands.models.input import USUAL_INPUTS, InputOptions
from gsop.errors import ConfigError

IMAGENET = USUAL_INPUTS["imagenet"]


def test_without_options_nothing_changes() -> None:
    assert InputOptions().applied_to(IMAGENET) == IMAGENET
    assert (IMAGENET.height, IMAGENET.width, IMAGENET.resize) == (224, 224, 256)
    assert (IMAGENET.mean, IMAGENET.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_every_option_is_followed() -> None:
    options = InputOptions(
        size=320, resize=400, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), interpolation="bicubic"
    )
    assert options.applied_to(IMAGENET).model_dump() == {
        "height": 320,
        "width": 320,
        "resize": 400,
        "mean": (0.1, 0.2, 0.3),
        "std": (0.4, 0.5, 0.6),
        "interpolation": "bicubic",
    }


def test_the_short_side_grows_with_the_size() -> None:
    assert InputOptions(size=448).applied_to(IMAGENET).resize == 512
    assert InputOptions(size=28).applied_to(USUAL_INPUTS["cifar"]).resize == 28


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (InputOptions(resize=200), "resize 200 is smaller than the crop"),
        (InputOptions(size=0), "height: "),
        (InputOptions(std=(0.0, 1.0, 1.0)), "every std must be positive"),
    ],
)
def test_what_cannot_be_is_refused(options: InputOptions, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"{reason}.*change --size"):
        options.applied_to(IMAGENET)

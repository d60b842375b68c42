from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from gsop.train.data.drawing import DrawingSpec, draw

STILL = DrawingSpec(
    plain=0.0,
    rotation=0.0,
    shear=0.0,
    scale=(1.0, 1.0),
    aspect=(1.0, 1.0),
    overshoot=0.0,
    elastic=0.0,
    thinning=(0.0, 0.0),
    threshold=(0.5, 0.5),
    softness=(0.05, 0.05),
    contrast=(1.0, 1.0),
    noise=(0.0, 0.0),
)
"""A crisp drawing of the scan where it is; only the polarity is drawn by lot."""


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.fixture
def scans() -> Tensor:
    """A cross of full ink in the middle 4×4 of each scan."""
    scans = torch.zeros(64, 1, 8, 8)
    scans[:, :, 2:6, 3:5] = 1
    scans[:, :, 3:5, 2:6] = 1
    return scans


def ink(pixels: Tensor) -> Tensor:
    """Where the ink is, (N, H, W): what differs from the corner by half the range."""
    grey = pixels[..., 0].float()
    return (grey - grey[:, :1, :1]).abs() > 127


def sides(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Height and width of each image's ink."""
    return mask.any(2).sum(1), mask.any(1).sum(1)


def test_drawings_are_grey_pixels_of_the_asked_size(scans: Tensor) -> None:
    pixels = draw(scans, 40, DrawingSpec(), generator())
    assert pixels.shape == (64, 40, 40, 3)
    assert pixels.dtype == torch.uint8
    assert (pixels == pixels[..., :1]).all()


def test_drawings_depend_on_the_generator_alone(scans: Tensor) -> None:
    first = draw(scans, 32, DrawingSpec(), generator(1))
    torch.manual_seed(7)
    assert torch.equal(first, draw(scans, 32, DrawingSpec(), generator(1)))
    assert not torch.equal(first, draw(scans, 32, DrawingSpec(), generator(2)))


def test_a_still_drawing_lies_where_the_scan_lies(scans: Tensor) -> None:
    expected = torch.nn.functional.interpolate(scans, size=(32, 32))[:, 0] > 0.5
    agreement = (ink(draw(scans, 32, STILL, generator())) == expected).float().mean()
    assert agreement > 0.97


def test_half_of_the_drawings_are_dark_on_light(scans: Tensor) -> None:
    ground = draw(scans, 32, STILL, generator())[:, 0, 0, 0]
    assert set(ground.tolist()) == {0, 255}
    assert 16 < (ground == 255).sum() < 48


def test_scale_and_aspect_set_height_and_width(scans: Tensor) -> None:
    height, width = sides(ink(draw(scans, 64, STILL, generator())))
    small = replace(STILL, scale=(0.5, 0.5), aspect=(0.5, 0.5))
    small_height, small_width = sides(ink(draw(scans, 64, small, generator())))
    assert ((small_height / height - 0.5).abs() < 0.1).all()
    assert ((small_width / width - 0.25).abs() < 0.1).all()


def test_small_drawings_lie_anywhere_but_inside_the_frame(scans: Tensor) -> None:
    masks = ink(draw(scans, 64, replace(STILL, scale=(0.5, 0.5)), generator()))
    rows = masks.any(2).float().argmax(1)
    area = masks.sum((1, 2)).float()
    assert rows.min() < 16
    assert rows.max() > 32
    assert ((area / area.median() - 1).abs() < 0.1).all(), "some ink was cut off"


def test_rotation_turns_and_shear_leans(scans: Tensor) -> None:
    bar = torch.zeros_like(scans)
    bar[..., 3:5] = 1
    upright = sides(ink(draw(bar, 64, STILL, generator())))[1]
    turned = sides(ink(draw(bar, 64, replace(STILL, rotation=30.0), generator())))[1]
    leaning = sides(ink(draw(bar, 64, replace(STILL, shear=0.5), generator())))[1]
    assert upright.min() == upright.max()
    assert turned.max() > 1.5 * upright.max()
    assert leaning.max() > 1.5 * upright.max()


def test_thinning_makes_thin_and_a_low_threshold_makes_thick(scans: Tensor) -> None:
    soft = torch.nn.functional.avg_pool2d(scans, 3, stride=1, padding=1)

    def area(how: DrawingSpec) -> Tensor:
        return ink(draw(soft, 32, how, generator())).sum()

    assert area(replace(STILL, thinning=(0.8, 0.8))) < 0.9 * area(STILL)
    assert area(replace(STILL, threshold=(0.25, 0.25))) > 1.1 * area(STILL)


def test_contrast_and_noise(scans: Tensor) -> None:
    faint = draw(scans, 32, replace(STILL, contrast=(0.5, 0.5)), generator()).float()
    span = faint.amax((1, 2, 3)) - faint.amin((1, 2, 3))
    assert ((span - 127.5).abs() < 3).all()
    noisy = draw(scans, 32, replace(STILL, contrast=(0.5, 0.5), noise=(0.1, 0.1)), generator())
    difference = (noisy.float() - faint).flatten()
    assert 20 < difference.std() < 30

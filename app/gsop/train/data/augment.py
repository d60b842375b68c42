"""Random variations of one training image. All randomness comes from the seed."""

from math import exp, log, sqrt

import cv2
import numpy as np
import torch
from numpy.random import Generator
from PIL import Image

from gsop.errors import ConfigError
from gsop.images import InputSpec, Pixels, centred, scaled
from gsop.train.data.spec import AugmentSpec, RandAugmentSpec, RandomCropSpec

_TRIES = 10
"""Rectangles to draw before the image's centre is taken; as torchvision has it."""


def augment(pixels: Pixels, input: InputSpec, how: AugmentSpec, seed: int) -> Pixels:
    """A variation of an image, of the network's input size.

    Args:
        pixels: the whole image, upright, (H, W, 3).
        input: the size to make.
        how: what to do.
        seed: 0 to 2**63 - 1.

    Returns:
        (input.height, input.width, 3) uint8.

    Raises:
        ConfigError: if RandAugment is asked for and torchvision is not installed.
    """
    rng = np.random.default_rng(seed)
    if how.random_crop is not None:
        pixels = _random_crop(pixels, how.random_crop, rng)
        pixels = scaled(pixels, input.height, input.width, input.interpolation)
    else:
        pixels = centred(pixels, input)
    if how.pad_crop:
        pixels = _pad_crop(pixels, how.pad_crop, rng)
    if how.flip and rng.random() < 0.5:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
    if how.rand_augment is not None:
        pixels = _rand_augment(pixels, how.rand_augment, seed)
    return pixels


def _random_crop(pixels: Pixels, how: RandomCropSpec, rng: Generator) -> Pixels:
    height, width = pixels.shape[:2]
    for _ in range(_TRIES):
        area = height * width * rng.uniform(*how.scale)
        ratio = exp(rng.uniform(log(how.ratio[0]), log(how.ratio[1])))
        w, h = round(sqrt(area * ratio)), round(sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = (
                rng.integers(height - h, endpoint=True),
                rng.integers(width - w, endpoint=True),
            )
            return pixels[top : top + h, left : left + w]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def _pad_crop(pixels: Pixels, by: int, rng: Generator) -> Pixels:
    height, width = pixels.shape[:2]
    top, left = rng.integers(2 * by, size=2, endpoint=True)
    padded = cv2.copyMakeBorder(pixels, by, by, by, by, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    return np.asarray(padded, np.uint8)[top : top + height, left : left + width]


def _rand_augment(pixels: Pixels, how: RandAugmentSpec, seed: int) -> Pixels:
    try:
        from torchvision.transforms.v2 import RandAugment
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise ConfigError(
            "RandAugment is torchvision's, which cannot be imported: install the extra "
            "`torchvision`, or train without it (--set augment.rand_augment=null)"
        ) from error
    image = Image.fromarray(np.ascontiguousarray(pixels))  # Pillow's kernels: half of torch's time
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # torchvision draws from torch's own generator
        return np.array(RandAugment(how.operations, how.magnitude)(image))

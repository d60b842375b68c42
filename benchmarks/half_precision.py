"""How far a network strays in a half precision, and what to measure it on."""

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import golden_numbers as golden
from benchmarks.models import DIGITS
from gsop.images import decode
from gsop.model.folding import fold_batch_norms
from gsop.model.official import from_official
from gsop.model.resnet import GSoPOutput, GSoPResNet
from gsop.store.store import load
from gsop.train.data.digits import Digits
from gsop.train.data.drawing import DrawingSpec
from gsop.train.evaluate import normalise

HALVES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Deviation:
    """The difference between two networks' answers to the same images.

    Attributes:
        gate: the largest difference of any gate value.
        logit: the largest difference of any logit, relative to the largest logit.
        agreement: the share of images with the same best class, 0 to 1.
        classes: how many classes are the best of some image: with one, agreement means nothing.
    """

    gate: float
    logit: float
    agreement: float
    classes: int


def deviation(
    model: GSoPResNet, images: Tensor, dtype: torch.dtype, *, fold: bool = False
) -> Deviation:
    """What ``model``, in float32, loses in ``dtype``, perhaps with its BNs folded before.

    Args:
        model: in eval mode.
        images: (N, 3, H, W).
        dtype: of the network's weights and of the images.
        fold: whether BNs are folded into the convolutions, as they are for serving.
    """
    half = deepcopy(model)
    if fold:
        fold_batch_norms(half)
    expected = answer(model, images)
    actual = answer(half.to(dtype), images.to(dtype))
    best = expected.logits.argmax(1)
    return Deviation(
        gate=max(
            float((gate - expected.gates[name]).abs().max()) for name, gate in actual.gates.items()
        ),
        logit=golden.error(actual.logits, expected.logits),
        agreement=float((actual.logits.argmax(1) == best).float().mean()),
        classes=torch.unique(best).numel(),
    )


def answer(model: GSoPResNet, images: Tensor, batch: int = 16) -> GSoPOutput:
    """The answers to images (N, 3, H, W), a batch at a time."""
    with torch.inference_mode():
        outputs = [model(part) for part in torch.split(images, batch)]
    gates = {
        name: torch.cat([output.gates[name] for output in outputs]) for name in outputs[0].gates
    }
    return GSoPOutput(torch.cat([output.logits for output in outputs]), gates)


def random_images(seed: int, count: int, size: int) -> Tensor:
    """Smooth fields of colour under noise of random strength, (count, 3, size, size).

    They differ among themselves as photographs do; of images of mere noise a network sees one.
    """
    fields = F.interpolate(golden.normal(seed, (count, 3, 6, 6)), (size, size), mode="bicubic")
    strength = golden.normal(seed + 1, (count, 1, 1, 1)).abs() / 2
    return fields + strength * golden.normal(seed + 2, (count, 3, size, size))


def random_resnet50(name: str, size: int) -> GSoPResNet:
    """A golden ResNet-50 that tells images apart.

    As drawn, one of its 1000 classes is the best of every image. Its mean logits, over other
    images of ``size`` × ``size``, are taken from its bias; what is left depends on the image alone.
    """
    model = from_official(golden.weights(name)).eval()
    # As served; bfloat16 takes a CPU three times as long in the other layout.
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs
    mean = answer(model, random_images(100, 32, size)).logits.mean(0)
    with torch.no_grad():
        model.get_parameter("head.fc.bias").sub_(mean)
    return model


def shipped_digits() -> tuple[GSoPResNet, Tensor]:
    """The shipped model, and the scans that it was not trained on, (N, 3, H, W)."""
    manifest, model = load(DIGITS / "1")
    samples = Digits(manifest.input.height, DrawingSpec()).held_out()
    pixels = [decode(sample.image, manifest.input, max_pixels=10_000) for sample in samples]
    return model, normalise(torch.from_numpy(np.stack(pixels)), manifest.input)

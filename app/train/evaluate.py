"""What a model is worth, measured through the preprocessing that serves.

Encoded images go through :mod:`app.images` as a request's body does, then through the network in
evaluation mode and float32.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from app.errors import ConfigError
from app.images import InputSpec, decode
from app.model.resnet import GSoPResNet
from app.store.catalog import resolve
from app.store.store import load
from app.train.data import DataSet, Sample
from app.train.recipe import RECIPES

MAX_PIXELS = 50_000_000
"""Largest image that is decoded, as in the service's default settings."""


class Score(NamedTuple):
    """How many samples a model names right."""

    correct: int
    samples: int

    @property
    def top1(self) -> float:
        """The share that is right, 0 to 1."""
        return self.correct / self.samples


def evaluate(root: Path, reference: str, *, device: torch.device) -> dict[str, Any]:
    """Measure a stored version again, on the data of the recipe that it was trained by.

    Args:
        root: the store.
        reference: ``name`` or ``name/version``.
        device: where to compute.

    Returns:
        Metrics as in a manifest; those of the same version on a like machine are equal.

    Raises:
        StoreError: if there is no such version, or it is not sound.
        ConfigError: if it was trained by no recipe of this release.
    """
    stored = resolve(root, reference)
    manifest, model = load(root / stored.name / stored.version)
    recipe = RECIPES.get(str(manifest.provenance.get("recipe")))
    if recipe is None:
        raise ConfigError(
            f"{stored.name}/{stored.version} was trained by no recipe of this release "
            f"({', '.join(RECIPES)}), so there are no data to measure it on"
        )
    return measure(model, manifest.input, recipe.data(), device=device)


def measure(
    model: GSoPResNet, spec: InputSpec, data: DataSet, *, device: torch.device
) -> dict[str, Any]:
    """A manifest's ``metrics``: top-1 on the held-out images and on each kind of variant."""
    held_out = score(model, spec, data.held_out(), device=device)
    return {
        "dataset": f"{data.source['dataset']}, held-out part",
        "top1": held_out.top1,
        "correct": held_out.correct,
        "samples": held_out.samples,
        "how": f"{data.how}. Measured on encoded images through the service's own preprocessing, "
        "float32",
        "robustness": {
            name: {"top1": result.top1, "samples": result.samples}
            for name, samples in data.variants().items()
            for result in [score(model, spec, samples, device=device)]
        },
    }


def score(
    model: GSoPResNet,
    spec: InputSpec,
    samples: Sequence[Sample],
    *,
    device: torch.device,
    batch_size: int = 64,
) -> Score:
    """Count the samples whose most probable class is the true one.

    Args:
        model: is left in evaluation mode, on ``device``.
        spec: how an image is prepared for it.
        samples: at least one.
        device: where to compute.
        batch_size: images at a time.
    """
    model.eval().to(device)
    correct = 0
    with torch.inference_mode():
        for start in range(0, len(samples), batch_size):
            batch = samples[start : start + batch_size]
            logits = model(normalise(_decode(batch, spec).to(device), spec)).logits
            labels = torch.tensor([sample.label for sample in batch], device=device)
            correct += int((logits.argmax(dim=1) == labels).sum())
    return Score(correct, len(samples))


def normalise(pixels: Tensor, spec: InputSpec) -> Tensor:
    """Pixels (N, H, W, 3) uint8 as the network's input (N, 3, H, W) float32."""
    mean = torch.tensor(spec.mean, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(spec.std, device=pixels.device).view(3, 1, 1)
    # Contiguous, not channels last, which is a fifth quicker on CPUs: oneDNN 3.12 writes past its
    # workspace in the backward pass of a strided 1×1 convolution of less than 8 channels in that
    # layout (16 with AVX-512), and corrupts the heap.
    images = pixels.permute(0, 3, 1, 2).contiguous()
    return (images.float() / 255 - mean) / std


def _decode(samples: Sequence[Sample], spec: InputSpec) -> Tensor:
    images = [decode(sample.image, spec, max_pixels=MAX_PIXELS) for sample in samples]
    return torch.from_numpy(np.stack(images))

"""What a model is worth, measured through the preprocessing that serves.

Encoded images go through :mod:`gsop.images` as a request's body does, then through the network in
evaluation mode and float32.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from gsop.cpus import cpu_count
from gsop.errors import RequestError
from gsop.images import Channels, InputSpec, Pixels, decode
from gsop.model.resnet import GSoPOutput, GSoPResNet
from gsop.train.calibration import calibrate
from gsop.train.data.dataset import DataSet, Sample

MAX_PIXELS = 50_000_000
"""Largest image that is decoded, as in the service's default settings."""


class Score(NamedTuple):
    """How many samples a model names right.

    Attributes:
        correct: samples whose most probable class is the true one.
        samples: that could be read.
        broken: names of those that could not.
        loss_sum: cross-entropy of all of them together.
    """

    correct: int
    samples: int
    broken: tuple[str, ...] = ()
    loss_sum: float = 0.0

    @property
    def top1(self) -> float:
        """The share that is right, 0 to 1; not a number if none could be read."""
        return self.correct / self.samples if self.samples else float("nan")

    @property
    def loss(self) -> float:
        """The mean cross-entropy; not a number if none could be read."""
        return self.loss_sum / self.samples if self.samples else float("nan")


class Measured(NamedTuple):
    """What a network was found to be worth.

    Attributes:
        metrics: a manifest's.
        temperature: that makes its probabilities believable; 1 where the images are too few.
    """

    metrics: dict[str, Any]
    temperature: float


def measure(model: GSoPResNet, spec: InputSpec, data: DataSet, *, device: torch.device) -> Measured:
    """Top-1 and calibration on the held-out images, and top-1 on each kind of variant."""
    logits, truth = held_out_logits(model, spec, data.held_out(), device=device)
    correct, samples = int((logits.argmax(axis=1) == truth).sum()), len(truth)
    calibration = calibrate(logits, truth)
    metrics = {
        "dataset": f"{data.source['dataset']}, held-out part",
        "top1": Score(correct, samples).top1,
        "correct": correct,
        "samples": samples,
        "how": f"{data.how}. Measured on encoded images through the service's own preprocessing, "
        "float32",
        "calibration": None if calibration is None else calibration.facts(),
        "robustness": {
            name: {"top1": result.top1, "samples": result.samples}
            for name, variants in data.variants().items()
            for result in [score(model, spec, variants, device=device)]
        },
    }
    return Measured(metrics, 1.0 if calibration is None else calibration.temperature)


def held_out_logits(
    model: GSoPResNet, spec: InputSpec, samples: Sequence[Sample], *, device: torch.device
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Logits (N, classes) and classes (N,) of those samples that can be read."""
    logits = [np.zeros((0, model.config.num_classes), np.float32)]
    truth: list[int] = []
    for batch in outputs(model, spec, samples, device=device):
        if batch.output is not None:
            logits.append(batch.output.logits.float().cpu().numpy())
            truth += batch.labels
    return np.concatenate(logits), np.array(truth, np.int64)


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
        samples: encoded images; those that cannot be read are named and left out.
        device: where to compute.
        batch_size: images at a time.
    """
    correct = read = 0
    loss = 0.0
    broken: list[str] = []
    for batch in outputs(model, spec, samples, device=device, batch_size=batch_size):
        broken += batch.broken
        if batch.output is not None:
            labels = torch.tensor(batch.labels, device=device)
            correct += int((batch.output.logits.argmax(dim=1) == labels).sum())
            read += len(labels)
            loss += float(F.cross_entropy(batch.output.logits.float(), labels, reduction="sum"))
    return Score(correct, read, tuple(broken), loss)


class Answered(NamedTuple):
    """What a network says of a batch of samples.

    Attributes:
        places: of those that could be read, in all samples.
        labels: of the same.
        broken: names of the others.
        output: of the network; ``None`` if none could be read.
    """

    places: list[int]
    labels: list[int]
    broken: list[str]
    output: GSoPOutput | None


def outputs(
    model: GSoPResNet,
    spec: InputSpec,
    samples: Sequence[Sample],
    *,
    device: torch.device,
    batch_size: int = 64,
) -> Iterator[Answered]:
    """What a network says of samples, a batch at a time; the arguments are those of :func:`score`.

    Each sample is asked for once: it may be a file.
    """
    model.eval().to(device)
    with ThreadPoolExecutor(cpu_count()) as threads:
        for start in range(0, len(samples), batch_size):
            batch = samples[start : start + batch_size]
            images = list(threads.map(lambda sample: _decode(sample.image, spec), batch))
            read = [n for n, image in enumerate(images) if image is not None]
            output = None
            if read:
                pixels = np.stack([image for image in images if image is not None])
                with torch.inference_mode():
                    output = model(normalise(torch.from_numpy(pixels).to(device), spec))
            yield Answered(
                places=[start + n for n in read],
                labels=[batch[n].label for n in read],
                broken=[s.name for s, image in zip(batch, images, strict=True) if image is None],
                output=output,
            )


def normalise(pixels: Tensor, spec: InputSpec) -> Tensor:
    """Pixels (N, H, W, 3) uint8 as the network's input (N, 3, H, W) float32."""
    mean, std = _constants(spec.mean, spec.std, pixels.device)
    # Contiguous, not channels last, which is a fifth quicker on CPUs: oneDNN 3.12 writes past its
    # workspace in the backward pass of a strided 1×1 convolution of less than 8 channels in that
    # layout (16 with AVX-512), and corrupts the heap.
    images = pixels.permute(0, 3, 1, 2).contiguous()
    return (images.float() / 255 - mean) / std


@lru_cache(maxsize=64)
def _constants(mean: Channels, std: Channels, device: torch.device) -> tuple[Tensor, Tensor]:
    """Both as (3, 1, 1) on the device. Made once: to send them there waits for it."""
    with torch.inference_mode(False):  # training may use them too
        return (
            torch.tensor(mean).view(3, 1, 1).to(device),
            torch.tensor(std).view(3, 1, 1).to(device),
        )


def _decode(image: bytes, spec: InputSpec) -> Pixels | None:
    try:
        return decode(image, spec, max_pixels=MAX_PIXELS)
    except RequestError:
        return None

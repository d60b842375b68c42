"""The golden numbers: what the authors' and the article's code computed, and with which weights."""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(__file__).parents[1] / "golden"


def draw(key: str, shape: Sequence[int]) -> Tensor:
    """The tensor of that name, drawn anew by the rule that the golden numbers were made with."""
    generator = np.random.default_rng(zlib.crc32(key.encode()))
    if key.endswith("num_batches_tracked"):
        return torch.zeros(tuple(shape), dtype=torch.long)
    if key.endswith("running_var"):
        values = generator.uniform(0.5, 1.5, shape)
    elif len(shape) >= 2:
        gentle = "spatial" in key and ("row_conv" in key or "fc_adapt" in key)
        scale = (0.1 if gentle else 1.0) * np.sqrt(2 / np.prod(shape[1:]))
        values = scale * generator.standard_normal(shape)
    elif key.endswith("bn3.weight"):
        values = 0.15 + 0.03 * generator.standard_normal(shape)
    elif key.endswith(".weight"):
        values = 1 + 0.1 * generator.standard_normal(shape)
    else:
        values = 0.1 * generator.standard_normal(shape)
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def keys(name: str) -> dict[str, list[int]]:
    """The shapes of an official checkpoint's tensors by key."""
    shapes: dict[str, list[int]] = json.loads((FOLDER / f"{name}.keys.json").read_text())
    return shapes


def weights(name: str) -> dict[str, Tensor]:
    """An official checkpoint's state dict, drawn anew."""
    return {key: draw(key, shape) for key, shape in keys(name).items()}


def normal(seed: int, shape: Sequence[int]) -> Tensor:
    """Normal noise in float32."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    return torch.from_numpy(noise.astype(np.float32))


def images() -> Tensor:
    """The two images that the golden networks saw, (2, 3, 224, 224)."""
    return normal(0, (2, 3, 224, 224))


def expected(name: str) -> Mapping[str, Tensor]:
    """The golden numbers of that name."""
    return load_file(FOLDER / f"{name}.safetensors")


def error(actual: Tensor, golden: Tensor) -> float:
    """The largest difference, relative to the golden tensor's largest magnitude."""
    actual, golden = actual.detach().double(), golden.detach().double()
    return float((actual - golden).abs().max() / golden.abs().max())

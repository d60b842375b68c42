"""The golden numbers: what the authors' and the article's code computed, and with which weights."""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from gsop.model.gsop import GSoP
from gsop.model.official import from_official

FOLDER = Path(__file__).parents[1] / "tests" / "golden"

NETWORKS = (
    "resnet50_net1_channel",
    "resnet50_net1_position",
    "resnet50_net1_fusion_avg",
    "resnet50_net2_channel",
)
"""The networks that there are golden numbers of."""

ARTICLE = "article_block"
"""The file with the golden numbers of the article's block."""

ARTICLE_CASES = {
    "c64_m16_7x5": (3, 64, 16, 7, 5),
    "c256_m128_24x24": (2, 256, 128, 24, 24),
}
"""Batch, channels, reduced channels, height and width of the inputs to the article's block."""

ARTICLE_NAMES = {
    "gate.reduce": "conv1.0",
    "gate.reduce_bn": "conv1.1",
    "gate.excite.row_conv": "row_wise_conv.0",
    "gate.excite.row_bn": "row_wise_conv.1",
    "gate.excite.expand": "conv2.0",
    "gate.excite.expand_bn": "conv2.1",
}
"""Our modules, and the article's."""


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


def network_answers(name: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """What our network of that name computes in ``dtype``, by the keys of the golden numbers."""
    model = from_official(weights(name)).eval().to(dtype)
    with torch.inference_mode():
        output = model(images().to(dtype))
    gates = {f"gate.{gate}": values.flatten(1) for gate, values in output.gates.items()}
    return {"logits": output.logits, **gates}


def article_answers(case: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """What our article's block computes in ``dtype``, by the keys of the golden numbers."""
    batch, channels, reduced_dim, height, width = ARTICLE_CASES[case]
    block = _article_block(channels, reduced_dim, height * width).to(dtype)
    x = normal(channels, (batch, channels, height, width)).to(dtype).requires_grad_()
    block.eval()
    answers = {"gate": block.gate(x), "output_mean": block(x).mean((2, 3))}
    block.train()
    answers["train_gate"] = block.gate(x)
    (gradient,) = torch.autograd.grad(block(x).square().sum(), x)
    answers["train_input_grad_mean"] = gradient.mean((2, 3))
    return {f"{case}.{key}": tensor.detach() for key, tensor in answers.items()}


def _article_block(channels: int, reduced_dim: int, positions: int) -> GSoP:
    block = GSoP(channels, reduced_dim)
    tensors = {}
    for key, tensor in block.state_dict().items():
        module, name = key.rsplit(".", 1)
        tensors[key] = draw(f"{ARTICLE_NAMES[module]}.{name}", tensor.shape)
    tensors["gate.excite.row_bn.running_var"] *= positions**2
    block.load_state_dict(tensors)
    return block

"""The authors' checkpoints: their names for our tensors, both ways.

    state_dict = torch.load(path, weights_only=True)["state_dict"]
    model = from_official(state_dict)

What is built is read off the keys and the shapes. One thing is written in neither: ``fusion_avg``
and ``fusion_max`` have the same tensors, so whoever has a ``fusion_max`` checkpoint must say so.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

from torch import Tensor

from gsop.errors import StoreError
from gsop.model.config import BACKBONES, Attention, Depth, GatedBlocks, GSoPResNetConfig
from gsop.model.foreign_names import known_names
from gsop.model.resnet import GSoPResNet

TRUNK_NAMES = {
    "conv1": "stem.conv",
    "bn1": "stem.bn",
    "layer_reduce": "head.reduce",
    "layer_reduce_bn": "head.reduce_bn",
    "fc": "head.fc",
}
"""The authors' modules outside the residual blocks, and ours. Names not listed are the same."""

BLOCK_NAMES = {
    "downsample.0": "shortcut.conv",
    "downsample.1": "shortcut.bn",
    "conv_for_DR": "gate.channel.reduce",
    "bn_for_DR": "gate.channel.reduce_bn",
    "row_bn": "gate.channel.excite.row_bn",
    "row_conv_group": "gate.channel.excite.row_conv",
    "fc_adapt_channels": "gate.channel.excite.expand",
    "conv_for_DR_spatial": "gate.position.reduce",
    "bn_for_DR_spatial": "gate.position.reduce_bn",
    "row_bn_for_spatial": "gate.position.excite.row_bn",
    "row_conv_group_for_spatial": "gate.position.excite.row_conv",
    "fc_adapt_channels_for_spatial": "gate.position.excite.expand",
    "dilate_conv_for_concat1": "gate.channel_conv",
    "dilate_conv_for_concat2": "gate.position_conv",
    "bn_for_concat": "gate.bn",
}
"""The same inside a residual block."""

_REMEDY = "pass the whole, unchanged `state_dict` of one of the authors' checkpoints"
_KEY = re.compile(r"(?P<block>layer\d+\.\d+\.)?(?P<module>.+)\.(?P<tensor>[^.]+)")


def our_key(key: str) -> str:
    """Our name of the tensor that the authors (and torchvision) call ``key``."""
    return _renamed(key, TRUNK_NAMES, BLOCK_NAMES)


def official_key(key: str) -> str:
    """The authors' name of the tensor that we call ``key``."""
    return _renamed(key, _inverse(TRUNK_NAMES), _inverse(BLOCK_NAMES))


def _renamed(key: str, trunk: Mapping[str, str], block: Mapping[str, str]) -> str:
    match = _KEY.fullmatch(key)
    if match is None:
        return key
    names = block if match["block"] else trunk
    module = names.get(match["module"], match["module"])
    return f"{match['block'] or ''}{module}.{match['tensor']}"


def _inverse(names: Mapping[str, str]) -> dict[str, str]:
    return {ours: theirs for theirs, ours in names.items()}


def from_official(
    state_dict: Mapping[str, Tensor],
    *,
    fusion: Literal["fusion_avg", "fusion_max"] = "fusion_avg",
) -> GSoPResNet:
    """The network of one of the authors' checkpoints, in float32 on the CPU.

    Args:
        state_dict: the checkpoint's ``state_dict``, with or without wrappers' names before the keys
            (:mod:`gsop.model.foreign_names`); our own names will do, too.
        fusion: what a network with both gates and no concatenation does with them.

    Raises:
        StoreError: naming the first key that is missing, unknown or of another shape.
    """
    tensors = known_names(state_dict).tensors
    if "stem.conv.weight" in tensors:
        tensors = {official_key(key): tensor for key, tensor in tensors.items()}
    model = GSoPResNet(_read_config(tensors, fusion))
    expected = {official_key(key): tensor for key, tensor in model.state_dict().items()}
    check_fit(tensors, expected, _REMEDY)
    model.load_state_dict({our_key(key): tensor for key, tensor in tensors.items()})
    return model


def to_official(model: GSoPResNet) -> dict[str, Tensor]:
    """The model's state dict under the authors' names (without ``module.``); tensors are shared.

    Raises:
        StoreError: if the model is of a kind that the authors' release does not know.
    """
    config = model.config
    preactivation = config.backbone.block == "preactivation"
    if config.flavour != "paper" or config.attention == "se" or preactivation:
        raise StoreError(
            f"the authors' release has no names for flavour {config.flavour!r} and attention "
            f"{config.attention!r} at depth {config.depth}: only post-activation networks of "
            "flavour 'paper' with second-order gates can be exported; publish this one to the "
            "store instead"
        )
    return {official_key(key): tensor for key, tensor in model.state_dict().items()}


def _read_config(
    tensors: Mapping[str, Tensor], fusion: Literal["fusion_avg", "fusion_max"]
) -> GSoPResNetConfig:
    stem = _shape(tensors, "conv1.weight")
    gates = [key for key in tensors if re.search(r"\.conv_for_DR(_spatial)?\.weight$", key)]
    defaults = GSoPResNetConfig()
    isqrt = "layer_reduce.weight" in tensors
    try:
        return GSoPResNetConfig(
            depth=read_depth(tensors),
            head="isqrt" if isqrt else "gap",
            attention=_read_attention(tensors, fusion),
            gated_blocks=_read_gated_blocks(gates),
            reduced_dim=_shape(tensors, gates[0])[0] if gates else defaults.reduced_dim,
            stem="imagenet" if stem[2:] == (7, 7) else "cifar",
            num_classes=_shape(tensors, "fc.weight")[0],
            base_width=stem[0],
            head_dim=_shape(tensors, "layer_reduce.weight")[0] if isqrt else defaults.head_dim,
        )
    except ValueError as error:
        raise StoreError(f"the checkpoint is none of the authors' networks: {error}") from error


def _shape(tensors: Mapping[str, Tensor], key: str) -> tuple[int, ...]:
    if key not in tensors:
        raise StoreError(f"{key} is missing: {_REMEDY}")
    if tensors[key].dim() < 2:
        raise StoreError(
            f"{key} has shape {tuple(tensors[key].shape)}, too few dimensions: {_REMEDY}"
        )
    return tuple(tensors[key].shape)


def read_depth(keys: Iterable[str]) -> Depth:
    """The depth of a ResNet with torchvision's names, by its residual blocks.

    Raises:
        StoreError: if no depth has such blocks.
    """
    convs = {match[0] for key in keys if (match := re.match(r"(layer\d+)\.\d+\.conv\d", key))}
    stages = Counter(conv.split(".")[0] for conv in convs if conv.endswith("conv1"))
    kind = "bottleneck" if any(conv.endswith("conv3") for conv in convs) else "basic"
    blocks = tuple(stages[stage] for stage in sorted(stages))
    for depth, backbone in BACKBONES.items():
        if (backbone.block, backbone.blocks) == (kind, blocks):
            return depth
    raise StoreError(f"no ResNet has stages of {blocks} {kind} blocks: {_REMEDY}")


def _read_attention(keys: Iterable[str], fusion: Literal["fusion_avg", "fusion_max"]) -> Attention:
    modules = {key.split(".")[-2] for key in keys if key.count(".") > 1}
    if "dilate_conv_for_concat1" in modules:
        return "fusion_concat"
    if {"conv_for_DR", "conv_for_DR_spatial"} <= modules:
        return fusion
    return "position" if "conv_for_DR_spatial" in modules else "channel"


def _read_gated_blocks(gates: Iterable[str]) -> GatedBlocks:
    blocks = {gate.rsplit(".", 2)[0] for gate in gates}
    if not blocks:
        return "none"
    return "all" if "layer1.0" in blocks else "last"


def check_fit(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], remedy: str) -> None:
    """Refuse tensors that are not of exactly the expected keys and shapes.

    Raises:
        StoreError: naming the first key that is unknown, of another shape, or missing.
    """
    for key, tensor in tensors.items():
        if key not in expected:
            raise StoreError(f"{key} is unknown: {remedy}")
        if tensor.shape != expected[key].shape:
            shapes = f"{tuple(tensor.shape)}, not {tuple(expected[key].shape)}"
            raise StoreError(f"{key} has shape {shapes}: {remedy}")
    for key in expected:
        if key not in tensors:
            raise StoreError(f"{key} is missing: {remedy}")

"""Names of a ResNet's tensors as other programs save them, made torchvision's and the authors'.

Whoever trains wraps the network, and each wrapper puts its name before the keys: ``module.``
(DistributedDataParallel, averaged weights), ``_orig_mod.`` (torch.compile), ``model.`` (Lightning),
``backbone.``, ``net.``, ``encoder.``, one inside of the other. timm names a ResNet as torchvision
does; transformers has names of its own.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

from gsop.errors import StoreError

AVERAGED = frozenset(
    {"ema", "ema_model", "model_ema", "module_ema", "state_dict_ema", "ema_state_dict"}
    | {"model_ema_state_dict", "averaged_model", "params_ema", "swa_model"}
)
"""Wrappers of averaged weights: these are the ones that were measured, so they are preferred."""

WRAPPERS = frozenset(
    {"module", "_orig_mod", "model", "backbone", "net", "network", "encoder", "encoder_q"}
    | {"base_encoder", "base_model", "resnet", "state_dict", "model_state_dict", "model_state"}
    | {"params", "weights", "body", *AVERAGED}
)
"""Names that are taken off the front of keys, and that a file's state dict may lie under."""

_NO_NETWORK = re.compile(
    r"(criterion|loss\w*|optim\w*|\w*sched\w*|scaler|grad_scaler|\w*metrics?|n_averaged|epoch"
    r"|(global_)?step|iteration|(train|val|valid|test)_\w+|hyper_parameters|hparams|callbacks|args"
    r"|config|cfg|loops|rng\w*|torch_rng\w*|pytorch-lightning_version|ema_decay|decay|updates"
    r"|neck|fpn|rpn|roi_heads?|(rpn|bbox|mask|keypoint|decode|auxiliary)_head)(\.|$)"
)
"""Keys of what a training keeps beside its network, and what detectors put onto a ResNet."""

_TRANSFORMERS = tuple(
    (re.compile(theirs), ours)
    for theirs, ours in (
        (r"embedder\.embedder\.convolution\.", "conv1."),
        (r"embedder\.embedder\.normalization\.", "bn1."),
        (r"(?:encoder\.)?stages\.(\d+)\.layers\.(\d+)\.shortcut\.convolution\.", "downsample.0."),
        (r"(?:encoder\.)?stages\.(\d+)\.layers\.(\d+)\.shortcut\.normalization\.", "downsample.1."),
        (r"(?:encoder\.)?stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.convolution\.", "conv"),
        (r"(?:encoder\.)?stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.normalization\.", "bn"),
        (r"classifier\.1\.", "fc."),
    )
)
"""What transformers' ResNets are called, below their wrapper ``resnet.``."""

_OURS = re.compile(r"(conv1|bn1|layer\d+\.\d+|fc|stem|head|layer_reduce\w*)\.")
"""How the keys of a ResNet begin that are known here."""


class Named(NamedTuple):
    """A state dict under known names.

    Attributes:
        tensors: by torchvision's or the authors' names, as far as they are a ResNet's.
        passed_over: keys that are no part of a network.
    """

    tensors: dict[str, Tensor]
    passed_over: tuple[str, ...]


def is_no_part(key: str) -> bool:
    """Whether a key belongs to what a training keeps beside its network."""
    return _NO_NETWORK.match(_without_wrappers(key)[0]) is not None


def known_names(state_dict: Mapping[str, Tensor]) -> Named:
    """Take known wrappers off, however nested, and give transformers' tensors their usual names.

    Raises:
        StoreError: if no key is any ResNet's then; it names the first one, what they have in
            common, and what the key would have been called.
    """
    found: dict[str, tuple[bool, Tensor]] = {}
    passed_over = []
    # mmcv keeps what it averages beside its network, under names without dots.
    beside = {f"ema_{key.replace('.', '_')}" for key in state_dict if "." in key}
    for key, tensor in state_dict.items():
        if key in beside or is_no_part(key):
            passed_over.append(key)
            continue
        name, averaged = _without_wrappers(key)
        name = _from_transformers(name)
        if name not in found or averaged:
            found[name] = averaged, tensor
    tensors = {name: tensor for name, (_, tensor) in found.items()}
    if tensors and not any(map(_OURS.match, tensors)):
        raise StoreError(_stranger(tensors))
    return Named(tensors, tuple(passed_over))


def _without_wrappers(key: str) -> tuple[str, bool]:
    """The key without its wrappers, and whether one of them holds averaged weights."""
    averaged = False
    while True:
        first, dot, rest = key.partition(".")
        if not dot or first not in WRAPPERS or (first == "encoder" and rest.startswith("stages.")):
            return key, averaged
        averaged |= first in AVERAGED
        key = rest


def _from_transformers(key: str) -> str:
    for theirs, ours in _TRANSFORMERS:
        if match := theirs.match(key):
            rest = key[match.end() :]
            match match.groups():
                case (stage, block, conv):
                    return f"layer{int(stage) + 1}.{block}.{ours}{int(conv) + 1}.{rest}"
                case (stage, block):
                    return f"layer{int(stage) + 1}.{block}.{ours}{rest}"
            return ours + rest
    return key


def _stranger(keys: Iterable[str]) -> str:
    names = list(keys)
    first, common = names[0], _common_prefix(names)
    if common and any(_OURS.match(name.removeprefix(common)) for name in names):
        wanted = next(name for name in names if _OURS.match(name.removeprefix(common)))
        return (
            f"all keys begin with {common!r}, which is no wrapper that is known: rename {wanted!r} "
            f"to {wanted.removeprefix(common)!r}, and the others likewise"
        )
    begin = f"all keys begin with {common!r}; " if common else ""
    return (
        f"{begin}the first, {first!r}, is no ResNet's: it would have been called 'conv1.weight' "
        "(torchvision, timm, the authors) or 'resnet.embedder.embedder.convolution.weight' "
        "(transformers)"
    )


def _common_prefix(names: list[str]) -> str:
    split = [name.split(".")[:-1] for name in names]
    common = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return "".join(f"{part}." for part in common)

"""``gsop models init``: a GSoP-ResNet to begin from, new or on a trained backbone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gsop.commands.models.foreign import read_weights, report_passed_over
from gsop.commands.models.input import USUAL_INPUTS, InputOptions
from gsop.commands.models.labels import labels_for, read_labels
from gsop.commands.models.zoo import pretrained_resnet
from gsop.errors import ConfigError, StoreError
from gsop.images import InputSpec
from gsop.model.config import GSoPResNetConfig
from gsop.model.foreign_names import known_names
from gsop.model.official import read_depth
from gsop.model.pretrained import from_torchvision
from gsop.model.resnet import GSoPResNet
from gsop.settings import Settings
from gsop.store.catalog import next_version
from gsop.store.store import check_new_version, publish

TORCHVISION = "torchvision"
"""The backbone that is torchvision's own, rather than a file."""

_DEFAULT_DEPTH = 50


@dataclass(frozen=True)
class Backbone:
    """A plain ResNet to start from.

    Attributes:
        name: of the weights.
        state_dict: under torchvision's names.
        input: what it was trained with; ``None`` if that is not known.
        origin: where exactly it comes from, for the manifest.
    """

    name: str
    state_dict: dict[str, Tensor]
    input: InputSpec | None
    origin: dict[str, str]

    def network(self) -> dict[str, Any]:
        """What a network needs in common with it, to answer as it does."""
        with _naming(self.name):
            own: dict[str, Any] = {"depth": read_depth(self.state_dict), "last_stride": 2}
        fc = self.state_dict.get("fc.weight")
        if fc is not None and fc.dim() == 2:
            own["num_classes"] = fc.shape[0]
        return own


def init(
    settings: Settings,
    *,
    name: str,
    version: str | None,
    backbone: str | None,
    network: Mapping[str, Any],
    labels: Path | None,
    input: Mapping[str, Any],
    seed: int,
) -> int:
    """Make a network and publish it.

    Args:
        settings: where the store is.
        name: the model's name.
        version: the version's name; the next number if absent.
        backbone: ``torchvision``, the file of a ResNet's state dict, under torchvision's, timm's or
            transformers' names, or none.
        network: the fields of :class:`GSoPResNetConfig` that are asked for; the backbone decides
            the others that it can, and the configuration's defaults the rest.
        labels: a text file, a line a class.
        input: of :class:`InputOptions`: how images are prepared, where not as for the backbone.
        seed: of the weights that are drawn.

    Raises:
        SetupError: if what is asked for does not fit together, or the version exists.
    """
    root = settings.own_store
    version = version or next_version(root, name)
    check_new_version(root, name, version)
    base = _find_backbone(backbone, network.get("depth", _DEFAULT_DEPTH))
    config = _configure(base, network, labels)
    usual = (base and base.input) or USUAL_INPUTS[config.stem]
    spec, names = InputOptions(**input).applied_to(usual), labels_for(config.num_classes, labels)
    torch.manual_seed(seed)
    folder = publish(
        root,
        GSoPResNet(config) if base is None else _on_backbone(base, config),
        name=name,
        version=version,
        input=spec,
        labels=names,
        metrics={},
        provenance={
            "made by": "gsop models init",
            "seed": seed,
            "backbone": base and base.name,
            **(base.origin if base is not None else {}),
        },
    )
    print(f"published {name}/{version} in {folder}; {_before_training(base, config)}")
    return 0


def on_backbone(backbone: str, config: GSoPResNetConfig) -> GSoPResNet:
    """A network that starts from a trained backbone, as :func:`init` makes it.

    Args:
        backbone: ``torchvision``, or the file of a ResNet's state dict, as :func:`init` takes it.
        config: the network; its head starts anew if it has other classes than the backbone.

    Raises:
        SetupError: if the backbone is not to be had, or does not fit.
    """
    base = _find_backbone(backbone, config.depth)
    assert base is not None  # noqa: S101 - one was named
    return _on_backbone(base, config)


def _find_backbone(backbone: str | None, depth: int) -> Backbone | None:
    if backbone is None:
        return None
    if backbone == TORCHVISION:
        found = pretrained_resnet(depth)
        return Backbone(found.name, found.state_dict, found.input, {"backbone_url": found.url})
    file = Path(backbone)
    weights = read_weights(file)
    with _naming(file.name):
        tensors, others = known_names(weights.state_dict)
    report_passed_over((*weights.passed_over, *others))
    return Backbone(file.name, tensors, None, {"backbone_sha256": weights.sha256})


def _configure(
    base: Backbone | None, network: Mapping[str, Any], labels: Path | None
) -> GSoPResNetConfig:
    given: dict[str, Any] = {"depth": _DEFAULT_DEPTH}
    if base is not None:
        given |= base.network()
    if labels is not None:
        given["num_classes"] = len(read_labels(labels))
    try:
        return GSoPResNetConfig(**{**given, **network})
    except ValueError as error:
        raise ConfigError(f"there is no such network: {error}") from error


def _on_backbone(base: Backbone, config: GSoPResNetConfig) -> GSoPResNet:
    with _naming(base.name):
        return from_torchvision(base.state_dict, config)


@contextmanager
def _naming(weights: str) -> Iterator[None]:
    """Says of which weights an error speaks."""
    try:
        yield
    except StoreError as error:
        raise StoreError(f"{weights}: {error}") from error


def _before_training(base: Backbone | None, config: GSoPResNetConfig) -> str:
    """What the network is worth as it is."""
    if base is None:
        return "its weights are random: train it"
    own = base.network()
    if config.head != "gap" or config.num_classes != own.get("num_classes"):
        return "its head is new: train it"
    if config.last_stride != own["last_stride"]:
        return "its last stage sees features more densely than the backbone's: fine-tune it"
    return "it answers as its backbone does until it is trained"

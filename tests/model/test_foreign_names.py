"""Whose checkpoint it is: wrappers, averaged weights, and other libraries' names of a ResNet."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from gsop.errors import StoreError
from gsop.model.config import GSoPResNetConfig
from gsop.model.foreign_names import known_names
from gsop.model.official import from_official, official_key, to_official
from gsop.model.pretrained import from_torchvision
from gsop.model.resnet import GSoPResNet

TINY = GSoPResNetConfig(depth=18, stem="cifar", base_width=8, reduced_dim=6, num_classes=10)
PLAIN = GSoPResNetConfig(
    depth=50, stem="imagenet", base_width=8, num_classes=10, attention="none", last_stride=2
)


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    return to_official(GSoPResNet(TINY))


@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "_orig_mod.", "model.", "backbone.", "net.", "encoder.", "ema.", "model_ema."),
        *("module._orig_mod.", "_orig_mod.module.", "model.net.backbone.", "state_dict.module."),
    ],
)
def test_wrappers_are_taken_off_however_nested(official: dict[str, Tensor], prefix: str) -> None:
    again = from_official({prefix + key: tensor for key, tensor in official.items()})
    assert all(torch.equal(to_official(again)[key], official[key]) for key in official)


def test_averaged_weights_of_torch_load(official: dict[str, Tensor]) -> None:
    network = GSoPResNet(TINY)
    averaged = torch.optim.swa_utils.AveragedModel(network).state_dict()
    assert "n_averaged" in averaged
    name = "stem.conv.weight"
    again = from_official(averaged)  # under our own names
    assert torch.equal(again.state_dict()[name], network.state_dict()[name])


def test_compiled_and_wrapped_by_torch_itself() -> None:
    network = GSoPResNet(TINY)
    compiled: Any = torch.compile(network, backend="eager")
    state = compiled.state_dict()
    assert state
    assert all(key.startswith("_orig_mod.") for key in state)
    assert from_official(state).config == TINY


def test_averaged_weights_are_preferred_to_the_last_ones() -> None:
    state = {"model.fc.bias": torch.zeros(1), "ema_model.module.fc.bias": torch.ones(1)}
    for order in (list(state), list(reversed(state))):
        tensors, _ = known_names({key: state[key] for key in order})
        assert tensors == {"fc.bias": torch.ones(1)}


def test_what_is_no_part_of_a_network_is_listed(official: dict[str, Tensor]) -> None:
    others = {
        "criterion.weight": torch.ones(3),
        "model.loss_fn.pos_weight": torch.ones(1),
        "optimizer.state.exp_avg": torch.ones(2),
        "val_acc.correct": torch.ones(()),
    }
    state = {f"model.{key}": tensor for key, tensor in official.items()} | others
    tensors, passed_over = known_names(state)
    assert tensors.keys() == official.keys()
    assert set(passed_over) == set(others)


def transformers_name(key: str) -> str:
    """What transformers calls a tensor of torchvision's name (its ResNetForImageClassification)."""
    key = re.sub(r"^fc\.", "classifier.1.", key)
    key = re.sub(r"^conv1\.", "resnet.embedder.embedder.convolution.", key)
    key = re.sub(r"^bn1\.", "resnet.embedder.embedder.normalization.", key)
    if found := re.match(r"layer(\d)\.(\d+)\.(.+)\.([^.]+)$", key):
        stage, block, module, tensor = found.groups()
        module = re.sub(r"downsample\.0", "shortcut.convolution", module)
        module = re.sub(r"downsample\.1", "shortcut.normalization", module)
        module = re.sub(r"conv(\d)", lambda m: f"layer.{int(m[1]) - 1}.convolution", module)
        module = re.sub(r"bn(\d)", lambda m: f"layer.{int(m[1]) - 1}.normalization", module)
        return f"resnet.encoder.stages.{int(stage) - 1}.layers.{block}.{module}.{tensor}"
    return key


@pytest.mark.parametrize("wrapper", ["", "model."])
def test_a_backbone_of_transformers(wrapper: str) -> None:
    plain = GSoPResNet(PLAIN)
    ours = {official_key(key): tensor for key, tensor in plain.state_dict().items()}
    theirs = {wrapper + transformers_name(key): tensor for key, tensor in ours.items()}
    assert f"{wrapper}resnet.encoder.stages.0.layers.0.shortcut.convolution.weight" in theirs
    assert f"{wrapper}resnet.encoder.stages.3.layers.2.layer.2.normalization.bias" in theirs
    again = from_torchvision(theirs, PLAIN)
    assert all(
        torch.equal(again.state_dict()[key], value) for key, value in plain.state_dict().items()
    )


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            ("trunk.conv1.weight", "trunk.fc.weight"),
            "all keys begin with 'trunk.', which is no wrapper that is known: rename "
            "'trunk.conv1.weight' to 'conv1.weight'",
        ),
        (
            ("blocks.0.attn.qkv.weight", "blocks.0.norm1.weight"),
            "all keys begin with 'blocks.0.'; the first, 'blocks.0.attn.qkv.weight', is no "
            "ResNet's: it would have been called 'conv1.weight'",
        ),
    ],
)
def test_strangers_are_told_what_is_expected(keys: tuple[str, ...], told: str) -> None:
    with pytest.raises(StoreError) as caught:
        from_official({key: torch.ones(1) for key in keys})
    assert told in str(caught.value)

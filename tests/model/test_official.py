import re
from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks import golden_numbers as golden
from gsop.errors import StoreError
from gsop.model.config import GSoPResNetConfig
from gsop.model.official import from_official, to_official
from gsop.model.resnet import GSoPResNet

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}
TINY = GSoPResNetConfig(depth=18, stem="cifar", base_width=8, reduced_dim=6, num_classes=10)
CONFIGS = {
    "resnet50_net1_channel": {},
    "resnet50_net1_position": {"attention": "position"},
    "resnet50_net1_fusion_avg": {"attention": "fusion_avg"},
    "resnet50_net1_fusion_concat": {"attention": "fusion_concat"},
    "resnet50_net2_channel": {"head": "isqrt"},
}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", golden.NETWORKS)
def test_golden_numbers(name: str, dtype: torch.dtype) -> None:
    """Logits and every gate; the error is relative to the tensor's largest magnitude."""
    actual, expected = golden.network_answers(name, dtype), golden.expected(name)
    assert actual.keys() == expected.keys()
    for key, tensor in actual.items():
        assert golden.error(tensor, expected[key]) < TOLERANCE[dtype], key


@pytest.mark.parametrize(("name", "changes"), CONFIGS.items())
def test_the_configuration_is_read_off_keys_and_shapes(name: str, changes: dict[str, Any]) -> None:
    zeros = {key: torch.zeros(shape) for key, shape in golden.keys(name).items()}
    assert from_official(zeros).config == replace(GSoPResNetConfig(), **changes)


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        replace(TINY, depth=50, base_width=4),
        replace(TINY, stem="imagenet", num_classes=3),
        replace(TINY, gated_blocks="all", reduced_dim=5),
        replace(TINY, gated_blocks="none", reduced_dim=128),
        replace(TINY, attention="position"),
        replace(TINY, attention="fusion_avg"),
        replace(TINY, attention="fusion_concat"),
        replace(TINY, head="isqrt", head_dim=7),
    ],
    ids=str,
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_round_trip_is_exact(config: GSoPResNetConfig, prefix: str) -> None:
    official = to_official(GSoPResNet(config))
    again = from_official({prefix + key: tensor for key, tensor in official.items()})

    assert again.config == config
    returned = to_official(again)
    assert list(returned) == list(official)
    assert all(torch.equal(returned[key], tensor) for key, tensor in official.items())


def test_fusion_max_is_had_by_asking() -> None:
    config = replace(TINY, attention="fusion_max")
    again = from_official(to_official(GSoPResNet(config)), fusion="fusion_max")
    assert again.config == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv1.weight": None}, "conv1.weight is missing"),
        ({"fc.weight": None}, "fc.weight is missing"),
        ({"fc.bias": None}, "fc.bias is missing"),
        ({"layer3.1.fc_adapt_channels.bias": None}, "layer3.1.fc_adapt_channels.bias is missing"),
        ({"layer2.0.bn1.weight": torch.zeros(3)}, "layer2.0.bn1.weight has shape (3,), not (16,)"),
        ({"conv1.weight": torch.zeros(3)}, "conv1.weight has shape (3,)"),
        ({"layer2.0.se.weight": torch.zeros(3)}, "layer2.0.se.weight is unknown"),
        ({"fc.scale": torch.zeros(())}, "fc.scale is unknown"),
        ({"layer4.2.conv1.weight": torch.zeros(3)}, "no ResNet has stages of (2, 2, 2, 3)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_first_key_that_does_not_fit_is_named(changes: dict[str, Any], message: str) -> None:
    tensors = to_official(GSoPResNet(TINY)) | changes
    with pytest.raises(StoreError, match=re.escape(message)):
        from_official({key: tensor for key, tensor in tensors.items() if tensor is not None})


@pytest.mark.parametrize(
    "changes",
    [{"flavour": "article"}, {"depth": 164, "base_width": 4}, {"attention": "se"}],
    ids=str,
)
def test_what_the_authors_have_no_names_for_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match="no names"):
        to_official(GSoPResNet(replace(TINY, **changes)))

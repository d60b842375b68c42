from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import golden_numbers as golden
from gsop.errors import StoreError
from gsop.model.config import Depth, GSoPResNetConfig
from gsop.model.official import official_key
from gsop.model.pretrained import from_torchvision
from gsop.model.resnet import GSoPResNet

TINY = GSoPResNetConfig(depth=18, base_width=8, reduced_dim=6, num_classes=10, last_stride=2)


def plain(config: GSoPResNetConfig = TINY) -> GSoPResNet:
    """A backbone without gates, whose BNs are no identities."""
    torch.manual_seed(0)
    model = GSoPResNet(replace(config, gated_blocks="none"))
    for name, tensor in model.state_dict().items():
        if name.endswith("running_mean"):
            nn.init.normal_(tensor)
        if name.endswith("running_var"):
            nn.init.uniform_(tensor, 0.5, 1.5)
    return model.eval()


def torchvision_keys(model: GSoPResNet) -> dict[str, Tensor]:
    return {official_key(key): tensor for key, tensor in model.state_dict().items()}


def images(batch: int = 3) -> Tensor:
    return golden.normal(0, (batch, 3, 64, 64))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"flavour": "article"},
        {"gated_blocks": "all"},
        {"gated_blocks": "none"},
        {"attention": "se"},
        {"depth": 50},
        {"stem": "cifar"},
    ],
    ids=str,
)
def test_the_network_starts_where_the_backbone_ended(changes: dict[str, Any]) -> None:
    config = replace(TINY, **changes)
    backbone = plain(config)
    model = from_torchvision(torchvision_keys(backbone), config).eval()
    with torch.inference_mode():
        output, expected = model(images()), backbone(images())
    assert torch.equal(output.logits, expected.logits)
    assert all((gate == 0.5).all() for gate in output.gates.values())


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 50])
def test_torchvision_s_own_network(depth: Depth) -> None:
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    backbone = models.get_model(f"resnet{depth}").train()
    with torch.no_grad():
        backbone(golden.normal(1, (8, 3, 64, 64)))  # BNs that have seen something
    backbone.eval()
    config = GSoPResNetConfig(depth=depth, last_stride=2)
    model = from_torchvision(backbone.state_dict(), config).eval()
    with torch.inference_mode():
        actual, expected = model(images()).logits, backbone(images())
    assert torch.equal(actual.argmax(1), expected.argmax(1))
    assert golden.error(actual, expected) < 1e-5


@pytest.mark.parametrize(
    "changes", [{"flavour": "paper"}, {"flavour": "article"}, {"attention": "se"}], ids=str
)
def test_the_gates_learn_from_the_start(changes: dict[str, Any]) -> None:
    config = replace(TINY, **changes)
    model = from_torchvision(torchvision_keys(plain()), config).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    learnt: set[str] = set()
    for _ in range(3):
        optimizer.zero_grad()
        model(images(8)).logits.square().mean().backward()
        optimizer.step()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            if parameter.grad.abs().max() > 1e-9:
                learnt.add(name)
    weights = {name for name, _ in model.named_parameters() if name.endswith("weight")}
    assert weights <= learnt


@pytest.mark.parametrize("changes", [{"num_classes": 7}, {"head": "isqrt", "head_dim": 5}], ids=str)
def test_another_head_starts_anew(changes: dict[str, Any]) -> None:
    backbone = plain()
    config = replace(TINY, **changes)
    model = from_torchvision(torchvision_keys(backbone), config).eval()
    assert model(images()).logits.shape == (3, config.num_classes)
    assert torch.equal(
        model.stem.state_dict()["conv.weight"], backbone.state_dict()["stem.conv.weight"]
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 34}, "the backbone is a ResNet-18: set depth to 18"),
        ({"attention": "position"}, "only attention 'channel'"),
        ({"base_width": 16}, "conv1.weight has shape"),
        ({"stem": "cifar"}, "conv1.weight has shape"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        from_torchvision(torchvision_keys(plain()), replace(TINY, **changes))


def test_a_foreign_layer_is_named() -> None:
    tensors = torchvision_keys(plain()) | {"layer1.0.se.weight": torch.zeros(3)}
    with pytest.raises(StoreError, match=r"layer1\.0\.se\.weight is unknown"):
        from_torchvision(tensors, TINY)

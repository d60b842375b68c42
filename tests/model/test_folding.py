import pytest
import torch
from torch import nn

from benchmarks import golden_numbers as golden
from gsop.model.config import GSoPResNetConfig
from gsop.model.folding import fold_batch_norms
from gsop.model.resnet import GSoPResNet
from tests.model.networks import EVERY_CONFIG, TINY, images, network


def batch_norms(model: nn.Module) -> set[str]:
    return {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    }


@EVERY_CONFIG
def test_a_folded_network_answers_the_same(config: GSoPResNetConfig) -> None:
    model = network(config)
    expected, before = model(images(3)), len(batch_norms(model))
    fold_batch_norms(model)
    actual = model(images(3))

    assert len(batch_norms(model)) < before / 2
    assert golden.error(actual.logits, expected.logits) < 1e-4
    torch.testing.assert_close(actual.gates, expected.gates, atol=1e-4, rtol=0)


def test_only_a_bn_that_follows_a_convolution_is_folded() -> None:
    model = network(TINY)
    fold_batch_norms(model)
    assert batch_norms(model) == {
        f"layer{stage}.1.gate.channel.excite.row_bn" for stage in (1, 2, 3, 4)
    }


def test_a_network_in_train_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"call model\.eval\(\) first"):
        fold_batch_norms(GSoPResNet(TINY))

from dataclasses import replace

import pytest
import torch

from benchmarks.pooling import HEADS, POOLINGS, OneConvolution, SecondOrderHead, second_moment
from gsop.model.heads import ISqrtHead
from gsop.train.presets import COMPARE_TEXTURES

CONFIG = replace(COMPARE_TEXTURES.config, head="isqrt", attention="none")


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_each_pooling_stands_behind_one_convolution(rectified: bool, pooling: str) -> None:
    network = OneConvolution(rectified, pooling, classes=5)
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 5)


def test_the_first_of_the_heads_is_net2s_own() -> None:
    torch.manual_seed(0)
    own = ISqrtHead(CONFIG).eval()
    features = torch.rand(2, CONFIG.stage_channels[-1], 4, 4)
    logits = []
    for matrix, root in HEADS.values():
        head = SecondOrderHead(CONFIG).eval()
        head.load_state_dict(own.state_dict())
        head.matrix, head.root = matrix, root
        logits.append(head(features))
    assert torch.allclose(logits[0], own(features), atol=1e-6)
    assert not any(torch.allclose(logits[0], other, atol=1e-3) for other in logits[1:])


def test_a_second_moment_holds_the_means() -> None:
    constant = torch.full((1, 2, 3, 3), 2.0)
    assert torch.equal(second_moment(constant), torch.full((1, 2, 2), 4.0))

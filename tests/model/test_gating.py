from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import golden_numbers as golden
from gsop.model.config import Attention, GSoPResNetConfig
from gsop.model.gating import ConcatFusion, make_gating

EVERY_ATTENTION = pytest.mark.parametrize("attention", get_args(Attention))
CHANNELS = 8


def config(attention: Attention, base_width: int = CHANNELS) -> GSoPResNetConfig:
    return GSoPResNetConfig(depth=18, attention=attention, base_width=base_width, reduced_dim=4)


def gated(attention: Attention, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gated tensor, and what it is made of: b·c and relu(b·p)."""
    torch.manual_seed(0)
    gating = make_gating(config(attention), stage=1, block=1).double().eval()
    output, gates = gating(b)
    empty = b.new_zeros(())
    by_channel = b * gates["channel"][:, :, None, None] if "channel" in gates else empty
    by_position = F.relu(b * gates["position"][:, None]) if "position" in gates else empty
    return output, by_channel, by_position


@pytest.fixture
def b() -> Tensor:
    return golden.normal(0, (2, 2 * CHANNELS, 9, 9)).double()


def test_channel(b: Tensor) -> None:
    output, by_channel, _ = gated("channel", b)
    torch.testing.assert_close(output, by_channel)


def test_position(b: Tensor) -> None:
    output, _, by_position = gated("position", b)
    torch.testing.assert_close(output, by_position)


def test_fusion_avg_is_a_sum(b: Tensor) -> None:
    output, by_channel, by_position = gated("fusion_avg", b)
    torch.testing.assert_close(output, by_channel + by_position)


def test_fusion_max(b: Tensor) -> None:
    output, by_channel, by_position = gated("fusion_max", b)
    torch.testing.assert_close(output, torch.where(b > 0, output, 0))
    torch.testing.assert_close(output, torch.maximum(by_channel, by_position))


def test_fusion_concat_convolves_both(b: Tensor) -> None:
    output, by_channel, by_position = gated("fusion_concat", b)
    torch.manual_seed(0)
    gating = make_gating(config("fusion_concat"), stage=1, block=1).double().eval()
    assert isinstance(gating, ConcatFusion)
    weight = torch.cat([gating.channel_conv.weight, gating.position_conv.weight], dim=1)
    both = torch.cat([by_channel, by_position], dim=1)
    convolved = F.conv2d(both, weight, padding=(7, 0))
    for conv in (gating.channel_conv, gating.position_conv):
        assert conv.bias is not None
        convolved += conv.bias[:, None, None]
    torch.testing.assert_close(output, gating.bn(convolved))


@pytest.mark.parametrize(
    ("stage", "kernel", "padding", "groups"),
    [(0, 11, 5, 4), (1, 9, 4, 8), (2, 7, 3, 16), (3, 5, 2, 32)],
)
def test_fusion_concat_reaches_as_in_the_release(
    stage: int, kernel: int, padding: int, groups: int
) -> None:
    paper = GSoPResNetConfig(attention="fusion_concat", gated_blocks="all")
    gating = make_gating(paper, stage, block=0)
    assert isinstance(gating, ConcatFusion)
    for conv in (gating.channel_conv, gating.position_conv):
        assert (conv.kernel_size, conv.padding) == ((kernel, 1), (padding, 0))
        assert conv.groups == groups


def test_ungated(b: Tensor) -> None:
    output, gates = make_gating(config("channel"), stage=1, block=0)(b)
    assert output is b
    assert gates == {}


@EVERY_ATTENTION
@pytest.mark.parametrize("size", [1, 2, 5])  # 1, 4, 25 positions for 4 reduced channels
def test_gradient(attention: Attention, size: int) -> None:
    torch.manual_seed(0)
    gating = make_gating(config(attention, base_width=2), stage=1, block=1).double().eval()
    b = golden.normal(size, (2, 4, size, size)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda b: gating(b)[0], b, fast_mode=True)

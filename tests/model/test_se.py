import pytest
import torch
from torch import nn

from benchmarks import golden_numbers as golden
from gsop.model.se import SEGate


def test_the_gate_is_two_layers_on_the_channels_means() -> None:
    torch.manual_seed(0)
    gate = SEGate(128).double()
    x = golden.normal(0, (3, 128, 5, 4)).double()
    means = x.flatten(2).mean(2)  # (N, C)
    squeeze, expand = gate.squeeze, gate.expand
    assert squeeze.weight.shape == (8, 128, 1, 1)
    assert squeeze.bias is not None
    assert expand.bias is not None
    hidden = (means @ squeeze.weight.flatten(1).T + squeeze.bias).relu()
    expected = torch.sigmoid(hidden @ expand.weight.flatten(1).T + expand.bias)
    torch.testing.assert_close(gate(x), expected)


def test_it_sees_means_and_nothing_of_the_second_order() -> None:
    gate = SEGate(16).double()
    x = golden.normal(0, (2, 16, 6, 6)).double()
    mean = x.mean((2, 3), keepdim=True)
    torch.testing.assert_close(gate(x), gate(mean + 10 * (x - mean)))
    assert not torch.allclose(gate(x), gate(x + 1))


def test_narrow_networks_keep_enough_hidden_numbers() -> None:
    assert SEGate(16).squeeze.out_channels == 4
    assert SEGate(1024).squeeze.out_channels == 64


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_gate_of_half_precision_is_float32(half: torch.dtype) -> None:
    gate = nn.Sequential(SEGate(16)).to(half)
    values = gate((1000 * golden.normal(0, (2, 16, 9, 9))).to(half))
    assert values.dtype == torch.float32
    assert values.isfinite().all()


def test_a_gate_that_starts_at_half() -> None:
    gate = SEGate(16)
    gate.start_at_half()
    assert (gate(golden.normal(0, (2, 16, 3, 3))) == 0.5).all()

import pytest
import torch
from torch.nn import functional as F

from benchmarks import golden_numbers as golden
from gsop.model.position import PositionGate, gate_positions, position_covariance


def test_covariance_of_positions_is_the_release_s_formula() -> None:
    x = golden.normal(0, (2, 5, 8, 8)).double()
    columns = x.flatten(2)  # (2, d, P)
    ones = torch.ones(5, 1, dtype=torch.float64)
    expected = columns.mT @ columns / 64 - columns.mT @ ones @ ones.T @ columns / 64**2
    torch.testing.assert_close(position_covariance(x), expected)


def test_covariance_of_positions_centres_where_channels_are_as_many() -> None:
    x = golden.normal(0, (1, 64, 8, 8)).double()
    expected = torch.cov(x[0].flatten(1).T, correction=0)
    torch.testing.assert_close(position_covariance(x)[0], expected)


@pytest.mark.parametrize("size", [(4, 4), (8, 8), (7, 5), (14, 14), (56, 56)])
def test_gate_has_the_size_of_what_it_gates(size: tuple[int, int]) -> None:
    gate = PositionGate(6, reduced_dim=4).eval()
    x = golden.normal(0, (2, 6, *size))
    assert gate(x).shape == (2, *size)
    assert ((gate(x) > 0) & (gate(x) < 1)).all()


def test_gating_rectifies() -> None:
    x = golden.normal(0, (2, 6, 4, 4))
    gate = torch.full((2, 4, 4), 0.25)
    torch.testing.assert_close(gate_positions(x, gate), F.relu(x) / 4)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_gate_of_half_precision_is_float32(half: torch.dtype) -> None:
    gate = PositionGate(6, reduced_dim=4).to(half).eval()
    values = gate(golden.normal(0, (2, 6, 9, 9)).to(half))
    assert values.dtype == torch.float32
    assert values.isfinite().all()


@pytest.mark.parametrize("size", [1, 3, 9])
def test_gradient(size: int) -> None:
    gate = PositionGate(3, reduced_dim=2).double().eval()
    x = golden.normal(0, (2, 3, size, size)).double().requires_grad_()
    assert torch.autograd.gradcheck(gate, x, fast_mode=True)


def test_gradient_is_finite_on_a_constant_image() -> None:
    gate = PositionGate(3, reduced_dim=2).train()
    x = torch.full((2, 3, 8, 8), 0.7, requires_grad=True)
    gate(x).sum().backward()
    for tensor in (x, *gate.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()

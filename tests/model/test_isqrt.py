import pytest
import torch
from torch import Tensor

from benchmarks import golden_numbers as golden
from gsop.model.config import GSoPResNetConfig
from gsop.model.heads import ISqrtHead
from gsop.model.isqrt import matrix_sqrt

CONFIG = GSoPResNetConfig(depth=18, base_width=1, head="isqrt", head_dim=4, num_classes=3)


def head() -> ISqrtHead:
    torch.manual_seed(0)
    return ISqrtHead(CONFIG).eval()


def features(size: int) -> Tensor:
    return golden.normal(size, (2, CONFIG.stage_channels[-1], size, size)).double()


def positive_definite(side: int) -> Tensor:
    factors = golden.normal(0, (3, side, 2 * side)).double()
    return factors @ factors.mT


def test_iterations_converge_to_the_square_root() -> None:
    matrix = positive_definite(6)
    root = matrix_sqrt(matrix, iterations=20)
    torch.testing.assert_close(root @ root, matrix)


def test_three_iterations_are_the_paper_s() -> None:
    matrix = positive_definite(5)
    trace = matrix.diagonal(dim1=1, dim2=2).sum(1).view(3, 1, 1)
    a, eye = matrix / trace, torch.eye(5, dtype=torch.float64)
    y, z = a @ (3 * eye - a) / 2, (3 * eye - a) / 2
    y, z = y @ (3 * eye - z @ y) / 2, (3 * eye - z @ y) / 2 @ z
    expected = y @ (3 * eye - z @ y) / 2 * trace.sqrt()
    torch.testing.assert_close(matrix_sqrt(matrix), expected)


def test_root_of_zero_is_zero_with_a_finite_gradient() -> None:
    matrix = torch.zeros(2, 4, 4, requires_grad=True)
    root = matrix_sqrt(matrix)
    (gradient,) = torch.autograd.grad(root.sum(), matrix)
    assert (root == 0).all()
    assert gradient.isfinite().all()


def test_one_zero_matrix_does_not_disturb_its_batch() -> None:
    matrix = positive_definite(4)
    with_zero = torch.cat([matrix, torch.zeros(1, 4, 4, dtype=torch.float64)])
    torch.testing.assert_close(matrix_sqrt(with_zero)[:3], matrix_sqrt(matrix))


def test_head_reads_the_lower_triangle_row_by_row() -> None:
    layer = head().double()
    roots: list[Tensor] = []
    layer.fc.register_forward_pre_hook(lambda _module, inputs: roots.append(inputs[0]))
    x = features(5)
    layer(x)

    reduced = torch.relu(layer.reduce_bn(layer.reduce(x))).flatten(2)
    covariance = torch.stack([torch.cov(sample, correction=0) for sample in reduced])
    root = matrix_sqrt(covariance)
    expected = torch.stack([root[:, i, j] for i in range(4) for j in range(i + 1)], dim=1)
    torch.testing.assert_close(roots[0], expected)


@pytest.mark.parametrize("size", [1, 5])  # one position leaves a zero covariance
def test_head_gradient(size: int) -> None:
    assert torch.autograd.gradcheck(head().double(), features(size).requires_grad_())


def test_head_gradient_of_singular_covariance() -> None:
    x = golden.normal(1, (2, CONFIG.stage_channels[-1], 1, 3)).double()  # 3 positions, 4 channels
    assert torch.autograd.gradcheck(head().double(), x.requires_grad_())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("value", [0.0, 0.7])
def test_head_is_finite_on_constant_features(training: bool, value: float) -> None:
    layer = head().train(training)
    x = torch.full((2, CONFIG.stage_channels[-1], 4, 4), value, requires_grad=True)
    logits = layer(x)
    logits.sum().backward()
    assert logits.isfinite().all()
    for tensor in (x, *layer.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_head_takes_the_root_and_classifies_in_float32(half: torch.dtype) -> None:
    layer = head()
    x = features(6).float()
    expected = layer(x)
    actual = layer.to(half)(x.to(half))
    assert actual.dtype == torch.float32
    assert golden.error(actual, expected) < 0.05

from dataclasses import replace
from functools import partial
from typing import get_args

import pytest
import torch
from torch import nn

from benchmarks import golden_numbers as golden
from gsop.model.config import BACKBONES, BlockKind, Depth, GSoPResNetConfig, Head, gate_layout
from gsop.model.gating import ChannelGating
from gsop.model.gsop import ChannelGate
from gsop.model.resnet import BLOCKS, GSoPResNet
from tests.model.networks import CONFIGS, EVERY_CONFIG, TINY, images, network


@EVERY_CONFIG
def test_gates_are_as_the_layout_says(config: GSoPResNetConfig) -> None:
    output = network(config)(images(2))

    layout = gate_layout(config, 33, 33)
    assert list(output.gates) == [spec.name for spec in layout]
    assert [gate.shape[1:] for gate in output.gates.values()] == [spec.shape for spec in layout]
    assert output.logits.shape == (2, config.num_classes)
    assert all(((gate >= 0) & (gate <= 1)).all() for gate in output.gates.values())


@pytest.mark.parametrize("head", get_args(Head))
@pytest.mark.parametrize("depth", BACKBONES)
def test_every_depth_with_either_head(depth: Depth, head: Head) -> None:
    config = replace(TINY, depth=depth, head=head, base_width=4, head_dim=8)
    output = network(config)(images(1))
    assert list(output.gates) == [spec.name for spec in gate_layout(config, 33, 33)]
    assert output.logits.isfinite().all()


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
@EVERY_CONFIG
def test_an_image_in_a_batch_gets_the_answer_it_gets_alone(
    config: GSoPResNetConfig, batch: int
) -> None:
    model = network(config)
    with torch.inference_mode():
        together = model(images(batch, 16))
        alone = [model(image[None]) for image in images(batch, 16)]

    close = partial(torch.testing.assert_close, atol=1e-4, rtol=1e-4)
    close(together.logits, torch.cat([one.logits for one in alone]))
    for name, gate in together.gates.items():
        close(gate, torch.cat([one.gates[name] for one in alone]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["bottleneck", "article", "fusion_max", "fusion_concat", "isqrt", "preactivation"]
)
def test_the_whole_network_exports_with_a_dynamic_batch(name: str) -> None:
    model = network(CONFIGS[name])
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(
        model, (images(2),), dynamic_shapes={"images": {0: batch}}, strict=True
    )

    for size in (1, 5):
        expected, actual = model(images(size)), exported.module()(images(size))
        torch.testing.assert_close(actual.logits, expected.logits)
        torch.testing.assert_close(actual.gates, expected.gates)


@EVERY_CONFIG
@pytest.mark.parametrize(("half", "tolerance"), [(torch.float16, 0.06), (torch.bfloat16, 0.2)])
def test_half_precision_answers_nearly_the_same(
    config: GSoPResNetConfig, half: torch.dtype, tolerance: float
) -> None:
    model = network(config)
    expected = model(images(2))
    actual = model.to(half)(images(2).to(half))

    assert actual.logits.dtype == torch.float32
    assert golden.error(actual.logits, expected.logits) < tolerance
    for name, gate in actual.gates.items():
        assert gate.dtype == torch.float32
        assert (gate - expected.gates[name]).abs().mean() < 0.02


@EVERY_CONFIG
def test_autocast_answers_nearly_the_same(config: GSoPResNetConfig) -> None:
    model = network(config)
    expected = model(images(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = model(images(2))

    assert actual.logits.dtype == torch.float32
    assert golden.error(actual.logits, expected.logits) < 0.2
    for name, gate in actual.gates.items():
        assert gate.dtype == torch.float32
        assert (gate - expected.gates[name]).abs().mean() < 0.02


@EVERY_CONFIG
def test_every_parameter_learns(config: GSoPResNetConfig) -> None:
    model = network(config).train()
    model(images(3)).logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@EVERY_CONFIG
def test_a_gradient_step_on_constant_images_is_finite(config: GSoPResNetConfig) -> None:
    model = network(config).train()
    constant = torch.zeros(2, 3, 32, 32, requires_grad=True)
    model(constant).logits.square().sum().backward()
    for tensor in (constant, *model.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


def test_convolutions_start_he_normal_by_fan_out() -> None:
    model = network(GSoPResNetConfig(depth=18))
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            std = float(module.weight.detach().std())
            assert std == pytest.approx((2 / fan_out) ** 0.5, rel=0.05), name
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all(), name
            assert (module.bias == 0).all(), name


@pytest.mark.parametrize(("head", "millions"), [("gap", 28.29), ("isqrt", 58.28)])
def test_parameters_are_as_published(head: Head, millions: float) -> None:
    model = GSoPResNet(GSoPResNetConfig(depth=50, head=head))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("size", [1, 3])
def test_gradient_of_a_gated_block(kind: BlockKind, size: int) -> None:
    torch.manual_seed(0)
    gating = ChannelGating(ChannelGate(8, reduced_dim=3))
    block = BLOCKS[kind](4, 8, 2, gating).double().eval()
    x = golden.normal(0, (2, 4, 2 * size, 2 * size)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: block(x)[0], x, fast_mode=True)


def test_a_preactivation_block_without_projection_adds_to_its_input() -> None:
    block = BLOCKS["preactivation"](8, 8, 1, ChannelGating(ChannelGate(8, reduced_dim=3))).eval()
    x = golden.normal(0, (2, 8, 5, 5))
    nn.init.zeros_(block.get_parameter("conv3.weight"))
    assert torch.equal(block(x)[0], x)

"""Packed convolutions answer as the plain ones do, in every kind of network."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from gsop.backends.packing import PackedConv2d, can_pack, pack_convolutions
from gsop.backends.torch_cpu import TorchCpu
from gsop.model.config import GSoPResNetConfig
from gsop.model.folding import fold_batch_norms
from gsop.model.resnet import GSoPOutput, GSoPResNet, Rectifier
from gsop.store.store import load
from tests.support import TINY

pytestmark = pytest.mark.skipif(not can_pack(torch.float32), reason="needs oneDNN on x86")

CONFIGS = {
    "basic": TINY,
    "bottleneck": replace(TINY, depth=50, stem="imagenet"),
    "preactivation": replace(TINY, depth=164),
    "both gates, concatenated": replace(TINY, attention="fusion_concat", head="isqrt", head_dim=8),
    "article": replace(TINY, flavour="article"),
}


def network(config: GSoPResNetConfig, dtype: torch.dtype = torch.float32) -> GSoPResNet:
    torch.manual_seed(0)
    made = GSoPResNet(config).eval()
    fold_batch_norms(made)
    return made.to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # not in torch's stubs


def images(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    made = torch.rand((count, 3, 32, 32), generator=generator)
    return made.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_it_answers_as_before(config: GSoPResNetConfig) -> None:
    plain, packed = network(config), network(config)
    pack_convolutions(packed, images(1))
    left = {name for name, m in packed.named_modules() if type(m) is nn.Conv2d}
    products = {name for name in left if name.endswith((".excite.expand", ".squeeze"))}
    assert left == products, "a convolution was left out"
    assert any(isinstance(m, PackedConv2d) for m in packed.modules())
    for count in (1, 3):  # which have layouts of their own
        with torch.inference_mode():
            expected, answer = plain(images(count)), packed(images(count))
        check(answer, expected)
    assert expected.logits.std() > 1e-3, "the network does not look at its images"


def check(answer: GSoPOutput, expected: GSoPOutput) -> None:
    torch.testing.assert_close(answer.logits, expected.logits, rtol=1e-4, atol=1e-4)
    assert answer.gates.keys() == expected.gates.keys()
    for name, gate in expected.gates.items():
        torch.testing.assert_close(answer.gates[name], gate, rtol=1e-4, atol=1e-4)


def test_relus_move_into_their_convolutions() -> None:
    model = network(CONFIGS["bottleneck"])
    blocks = len([m for m in model.modules() if isinstance(m, Rectifier)])
    pack_convolutions(model, images(1))
    left = len([m for m in model.modules() if isinstance(m, Rectifier | nn.ReLU)])
    assert blocks == 3 * left, "each block keeps only the one behind its sum"


@pytest.mark.skipif(not can_pack(torch.bfloat16), reason="needs a processor with bfloat16")
def test_half_precision_keeps_its_rounding() -> None:
    plain, packed = network(TINY, torch.bfloat16), network(TINY, torch.bfloat16)
    pack_convolutions(packed, images(1).bfloat16())
    with torch.inference_mode():
        expected, answer = plain(images(3).bfloat16()), packed(images(3).bfloat16())
    torch.testing.assert_close(answer.logits, expected.logits, rtol=0.05, atol=0.05)


def test_a_processor_without_bfloat16_packs_float32_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False, raising=False)
    assert can_pack(torch.float32)
    assert not can_pack(torch.bfloat16)


def test_what_a_forward_does_not_reach_stays() -> None:
    model = nn.Sequential()
    model.conv = nn.Conv2d(3, 4, 1)
    model.forward = lambda x: x  # type: ignore[method-assign]
    pack_convolutions(model, images(1))
    assert type(model.conv) is nn.Conv2d


def test_a_backend_packs_what_it_answers_with(tiny_store: Path) -> None:
    manifest, model = load(tiny_store / "tiny" / "1")
    backend = TorchCpu(
        manifest, model, device=torch.device("cpu"), dtype=torch.float32, max_batch=2, threads=1
    )
    assert any(isinstance(m, PackedConv2d) for m in backend._model.modules())

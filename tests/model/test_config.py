import json
import subprocess
import sys
from dataclasses import asdict, replace
from typing import Any

import pytest

from gsop.model.config import (
    BACKBONES,
    Depth,
    GateSpec,
    GSoPResNetConfig,
    gate_layout,
    stage_sizes,
)


def test_layout_of_the_papers_network() -> None:
    layout = gate_layout(GSoPResNetConfig(attention="fusion_avg"), 224, 224)
    assert [(spec.name, spec.shape) for spec in layout] == [
        ("layer1.2.channel", (256,)),
        ("layer1.2.position", (56, 56)),
        ("layer2.3.channel", (512,)),
        ("layer2.3.position", (28, 28)),
        ("layer3.5.channel", (1024,)),
        ("layer3.5.position", (14, 14)),
        ("layer4.2.channel", (2048,)),
        ("layer4.2.position", (14, 14)),
    ]
    assert layout[1] == GateSpec("layer1", "layer1.2", "position", (56, 56))
    assert [spec.size for spec in layout[:2]] == [256, 3136]


def test_the_last_stage_is_ungated_under_the_isqrt_head() -> None:
    imagenet = GSoPResNetConfig(head="isqrt")
    assert [spec.stage for spec in gate_layout(imagenet, 224, 224)] == [
        "layer1",
        "layer2",
        "layer3",
    ]
    cifar = GSoPResNetConfig(depth=164, stem="cifar", head="isqrt")
    assert [spec.block for spec in gate_layout(cifar, 32, 32)] == ["layer1.17", "layer2.17"]


def test_resnet_164_has_three_narrow_stages() -> None:
    config = GSoPResNetConfig(depth=164, stem="cifar", last_stride=2)
    assert config.base_width == 16
    assert config.stage_channels == (64, 128, 256)
    assert config.stage_strides == (1, 2, 2)
    assert stage_sizes(config, 32, 32) == [(32, 32), (16, 16), (8, 8)]


def test_every_gated_block_is_in_the_layout() -> None:
    config = GSoPResNetConfig(depth=101, gated_blocks="all")
    assert len(gate_layout(config, 224, 224)) == sum(BACKBONES[101].blocks)
    assert gate_layout(replace(config, gated_blocks="none"), 224, 224) == ()


def test_no_attention_and_no_gated_blocks_are_the_same_plain_network() -> None:
    plain = GSoPResNetConfig(attention="none")
    assert plain == GSoPResNetConfig(gated_blocks="none")
    assert plain == GSoPResNetConfig(gated_blocks="none", attention="fusion_avg")
    assert gate_layout(plain, 224, 224) == ()
    assert GSoPResNetConfig(flavour="article", gated_blocks="none").attention == "none"


def test_squeeze_and_excitation_sits_where_the_channel_gates_do() -> None:
    se, channel = GSoPResNetConfig(attention="se"), GSoPResNetConfig()
    assert gate_layout(se, 224, 224) == gate_layout(channel, 224, 224)


@pytest.mark.parametrize("depth", [18, 50, 164])
def test_a_config_survives_json(depth: Depth) -> None:
    config = GSoPResNetConfig(depth=depth, stem="cifar")
    assert GSoPResNetConfig(**json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depth": 20}, "depth is 20; it can be 18, 34, 50"),
        ({"head": "max"}, "it can be gap, isqrt"),
        ({"last_stride": 3}, "it can be 1, 2"),
        ({"reduced_dim": 0}, "at least 1"),
        ({"base_width": -1}, "at least 1"),
        ({"depth": 164}, "stem must be 'cifar'"),
        ({"flavour": "article", "attention": "position"}, "attention must be 'channel'"),
        ({"flavour": "article", "attention": "se"}, "attention must be 'channel'"),
        ({"attention": "fusion_concat", "base_width": 40}, "base_width must be a multiple of 64"),
    ],
)
def test_what_no_network_computes_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GSoPResNetConfig(**wrong)


def test_a_config_is_had_without_torch() -> None:
    code = "import gsop.model.config, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

import re

import pytest

from benchmarks.variants import VARIANTS, row
from gsop.model.config import GSoPResNetConfig
from gsop.model.cost import cost
from tests.support import ROOT


@pytest.mark.slow
def test_cost_of_a_network_by_hand() -> None:
    config = GSoPResNetConfig(
        depth=18, stem="cifar", base_width=2, reduced_dim=3, num_classes=5, gated_blocks="last"
    )
    found = cost(config, 8, 8)

    # Spatial sides are 8, 4, 2, 2, channels 2, 4, 8, 16; a stage has two blocks of two 3×3
    # convolutions, and a 1×1 convolution in the shortcut of all but the first.
    stem = 64 * 9 * 3 * 2
    stages = 64 * 9 * 4 * (2 * 2)
    for positions, entering, channels in ((16, 2, 4), (4, 4, 8), (4, 8, 16)):
        stages += positions * (9 * channels * (entering + 3 * channels) + entering * channels)
    # A gate: reduce, covariance, row-wise convolution, expand.
    gates = sum(
        positions * channels * 3 + positions * 3 * 3 + 12 * 3 + 12 * channels
        for positions, channels in ((16, 2), (16, 4), (4, 8), (4, 16))
    )
    assert found.gate_multiply_adds == gates
    assert found.multiply_adds == stem + stages + gates + 16 * 5
    assert found.gate_share == gates / found.multiply_adds


@pytest.mark.slow
def test_gates_of_the_papers_network_are_cheap() -> None:
    found = cost(GSoPResNetConfig(), 224, 224)
    assert found.parameters == 28_285_224
    assert found.gate_parameters / found.parameters == pytest.approx(0.096, abs=0.001)
    assert found.multiply_adds == pytest.approx(6.4e9, rel=0.01)
    assert found.gate_share == pytest.approx(0.029, abs=0.001)


@pytest.mark.slow
def test_a_network_without_gates_spends_nothing_on_them() -> None:
    found = cost(GSoPResNetConfig(depth=18, gated_blocks="none"), 64, 64)
    assert (found.gate_parameters, found.gate_multiply_adds, found.gate_share) == (0, 0, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_the_documented_cost_of_every_variant(name: str) -> None:
    documented = re.sub(" +", " ", (ROOT / "docs" / "model.md").read_text(encoding="utf-8"))
    assert f"| {' | '.join(row(name))} |" in documented

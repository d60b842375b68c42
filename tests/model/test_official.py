import pytest
import torch

from app.model.config import GSoPResNetConfig
from app.model.official import from_official, to_official
from app.model.resnet import GSoPResNet
from tests.model import golden

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}
TINY = GSoPResNetConfig(depth=18, stem="cifar", base_width=8, reduced_dim=6, num_classes=10)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ["resnet50_net1_channel"])
def test_golden_numbers(name: str, dtype: torch.dtype) -> None:
    """Logits and every gate; the error is relative to the tensor's largest magnitude."""
    model = from_official(golden.weights(name)).eval().to(dtype)
    with torch.inference_mode():
        output = model(golden.images().to(dtype))

    actual = {f"gate.{gate}": values.flatten(1) for gate, values in output.gates.items()}
    actual["logits"] = output.logits
    expected = golden.expected(name)
    assert actual.keys() == expected.keys()
    for key, tensor in actual.items():
        assert golden.error(tensor, expected[key]) < TOLERANCE[dtype], key


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_round_trip_is_exact(prefix: str) -> None:
    model = GSoPResNet(TINY)
    official = to_official(model)
    again = from_official({prefix + key: tensor for key, tensor in official.items()})

    assert again.config == model.config
    returned = to_official(again)
    assert list(returned) == list(official)
    assert all(torch.equal(returned[key], tensor) for key, tensor in official.items())

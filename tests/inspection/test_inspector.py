"""Numbers of an inspection are those of a plain forward, of numpy, and of the golden file."""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks import golden_numbers as golden
from gsop.backends.base import Place
from gsop.backends.torch_device import TorchBackend
from gsop.images import InputSpec, Pixels, decode
from gsop.inspection.inspector import Inspector
from gsop.inspection.views import GateView, Look
from gsop.model.config import GSoPResNetConfig, gate_layout
from gsop.model.official import from_official
from gsop.model.resnet import GSoPResNet
from gsop.store.manifest import Manifest
from tests.model.networks import CONFIGS, EVERY_CONFIG, network
from tests.support import ROOT

EXACT = 1e-10
SIZE = 33


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def inspector_of(model: GSoPResNet, size: int = SIZE) -> Inspector:
    half = (0.5, 0.5, 0.5)
    manifest = Manifest(
        format=1,
        name="studied",
        version="1",
        config=model.config,
        input=InputSpec(height=size, width=size, resize=size, mean=half, std=half),
        labels=tuple(map(str, range(model.config.num_classes))),
        sha256="0" * 64,
        created=datetime.now(UTC),
    )
    return Inspector(manifest, model)


def pixels(seed: int, size: int = SIZE) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


class Constant(nn.Module):
    """Stands where a gate was, and answers the same whatever comes."""

    def __init__(self, gate: Tensor) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, b: Tensor) -> Tensor:
        return self.gate.expand(len(b), *self.gate.shape[1:])


def with_gates(model: GSoPResNet, gates: dict[str, Tensor]) -> GSoPResNet:
    """A copy of the network in which these gates are constants."""
    changed = copy.deepcopy(model)
    for name, gate in gates.items():
        stage, block, kind = name.split(".")
        setattr(changed.stages[stage][int(block)].gate, kind, Constant(gate))
    return changed


def plain(model: GSoPResNet, image: Tensor, gates: dict[str, Tensor]) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        return np.asarray(with_gates(model, gates)(image).logits[0].numpy())


@EVERY_CONFIG
def test_every_ablation_is_a_plain_forward_with_the_gate_replaced(config: GSoPResNetConfig) -> None:
    inspector = inspector_of(network(config))
    image, other = (inspector.normalised(pixels(seed)) for seed in (1, 2))
    with torch.inference_mode():
        own, theirs = inspector.network(image).gates, inspector.network(other).gates

    seen = set()
    for ablated in inspector.ablate(pixels(1), pixels(2)):
        chosen = {k: g for k, g in own.items() if ablated.stage in (k.split(".")[0], "all")}
        gates = {
            "open": {k: torch.ones_like(g) for k, g in chosen.items()},
            "closed": {k: torch.zeros_like(g) for k, g in chosen.items()},
            "mean": {k: torch.full_like(g, g.mean().item()) for k, g in chosen.items()},
            "other": {k: theirs[k] for k in chosen},
        }[ablated.way]
        expected = plain(inspector.network, image, gates)
        np.testing.assert_allclose(ablated.logits, expected, rtol=0, atol=EXACT)
        seen.add((ablated.stage, ablated.way))

    stages = inspector.stages
    assert len(seen) == 4 * (len(stages) + (len(stages) > 1))


@pytest.mark.parametrize("name", ["basic", "article", "fusion_max", "isqrt", "se", "all blocks"])
def test_switching_one_channel_is_a_plain_forward(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspector = inspector_of(network(CONFIGS[name]))
    image = inspector.normalised(pixels(1))
    with torch.inference_mode():
        logits, gates = inspector.network(image)
    gate = list(gates)[1 if name == "all blocks" else 0]
    # Several batches, the last of them smaller.
    monkeypatch.setattr("gsop.inspection.inspector.BATCH_BYTES", 3 * 8 * 8 * SIZE * SIZE)

    done: list[int] = []
    switched = inspector.switch(pixels(1), gate, to=1.0, report=done.append)

    assert done == [3, 3, 2]
    assert switched.class_id == int(logits.argmax())
    for channel in range(8):
        changed = gates[gate].clone()
        changed[0, channel] = 1.0
        expected = plain(inspector.network, image, {gate: changed})
        assert switched.logits[channel] == pytest.approx(expected[switched.class_id], abs=EXACT)
        assert switched.winners[channel] == expected.argmax()
    strongest = list(switched.strongest(3))
    assert strongest == sorted(range(8), key=lambda c: -abs(switched.effects[c]))[:3]


def test_only_channels_are_switched() -> None:
    inspector = inspector_of(network(CONFIGS["position"]))
    with pytest.raises(ValueError, match=r"'layer1.1.position'; there are: none in this network"):
        inspector.switch(pixels(1), "layer1.1.position")


def test_a_gate_that_is_not_there_cannot_be_given() -> None:
    model = network(CONFIGS["basic"])
    with pytest.raises(ValueError, match=r"layer9.0.channel; there are layer1.1.channel, "):
        model(torch.zeros(1, 3, SIZE, SIZE), {"layer9.0.channel": torch.ones(1, 8)})


def look_at(name: str) -> Look:
    return inspector_of(network(CONFIGS[name])).look(pixels(3))


def matrix_of(view: GateView) -> np.ndarray[Any, np.dtype[np.float64]]:
    assert view.matrix is not None
    return view.matrix


def features_of(view: GateView) -> np.ndarray[Any, np.dtype[np.float64]]:
    assert view.features is not None
    return view.features.reshape(len(view.features), -1)


@pytest.mark.parametrize(
    "name", ["basic", "bottleneck", "preactivation", "all blocks", "fusion_avg"]
)
def test_the_covariance_is_numpys(name: str) -> None:
    for view in look_at(name).gates:
        if view.spec.kind == "channel":
            features = features_of(view)
            expected = np.cov(features, bias=True)
            np.testing.assert_allclose(matrix_of(view), expected, rtol=0, atol=EXACT)
            varies = np.flatnonzero(features.std(axis=1) > 0)
            assert view.correlation is not None
            np.testing.assert_allclose(
                view.correlation[np.ix_(varies, varies)],
                np.corrcoef(features[varies]),
                rtol=0,
                atol=EXACT,
            )


def test_the_articles_covariance_is_a_sum() -> None:
    for view in look_at("article").gates:
        features = features_of(view)
        expected = np.cov(features, bias=True) * features.shape[1]
        np.testing.assert_allclose(matrix_of(view), expected, rtol=0, atol=EXACT)


def test_the_positions_covariance_is_the_releases() -> None:
    for view in look_at("position").gates:
        x = features_of(view)  # (d, P)
        sums = x.sum(axis=0)
        expected = x.T @ x / 64 - np.outer(sums, sums) / 64**2
        np.testing.assert_allclose(matrix_of(view), expected, rtol=0, atol=EXACT)


@EVERY_CONFIG
def test_what_is_seen_belongs_together(config: GSoPResNetConfig) -> None:
    inspector = inspector_of(network(config))
    look = inspector.look(pixels(3))
    with torch.inference_mode():
        answer = inspector.network(inspector.normalised(pixels(3)))

    np.testing.assert_allclose(look.logits, answer.logits[0].numpy(), rtol=0, atol=EXACT)
    assert [view.spec for view in look.gates] == list(gate_layout(config, SIZE, SIZE))
    for view in look.gates:
        np.testing.assert_allclose(
            view.gate, answer.gates[view.spec.name][0].numpy(), rtol=0, atol=EXACT
        )
        sigmoid = 1 / (1 + np.exp(-view.logits))
        if view.spec.kind == "channel":
            np.testing.assert_allclose(view.gate, sigmoid, rtol=0, atol=EXACT)
        else:
            assert sigmoid.shape == (64,)
        if view.matrix is None:
            assert (view.spectrum, view.correlation, view.effective_rank) == (None, None, None)
            continue
        assert view.spectrum is not None
        assert view.spectrum.sum() == pytest.approx(np.trace(view.matrix))
        assert (np.diff(view.spectrum) <= 0).all()


def test_gates_are_the_authors() -> None:
    """Those of the authors' own code, for the first of their two images."""
    name = "resnet50_net1_channel"
    expected = golden.expected(name)
    inspector = inspector_of(from_official(golden.weights(name)), 224)
    image = golden.normal(0, (2, 3, 224, 224))[:1].double()
    with torch.inference_mode():
        parts = dict(inspector.network.gate_parts(image))
    for spec in inspector.layout.gates:
        gate = torch.sigmoid(parts[spec.name].logits)
        assert golden.error(gate, expected[f"gate.{spec.name}"][:1]) < 1e-6, spec.name


def test_one_image_gives_the_golden_numbers() -> None:
    """examples/digits/7.png, with the gates of a drawn 3 put in; digits/1."""
    expected = json.loads((ROOT / "tests/golden/inspection_digits_7.json").read_text())
    inspector = Inspector.open(ROOT / "model_store/digits/1")

    def read(file: str) -> Pixels:
        data = (ROOT / "examples" / file).read_bytes()
        return decode(data, inspector.manifest.input, max_pixels=10**6)

    seven, three = read("digits/7.png"), read("drawn/3.png")
    look = inspector.look(seven)
    assert look.logits.tolist() == pytest.approx(expected["logits"], rel=1e-6, abs=1e-9)
    for view in look.gates:
        kept = expected["gates"][view.spec.name]
        assert view.spectrum is not None
        assert view.spectrum.tolist() == pytest.approx(kept["spectrum"], rel=1e-6, abs=1e-9)
        assert view.logits.tolist() == pytest.approx(kept["logits"], rel=1e-6, abs=1e-9)
        assert view.effective_rank == pytest.approx(kept["effective_rank"], rel=1e-6, abs=1e-9)
    found = {f"{a.stage} {a.way}": a.logits.tolist() for a in inspector.ablate(seven, three)}
    assert found.keys() == expected["ablations"].keys()
    for name, logits in found.items():
        assert logits == pytest.approx(expected["ablations"][name], rel=1e-6, abs=1e-9)
    switched = inspector.switch(seven, "layer4.1.channel")
    assert switched.effects.tolist() == pytest.approx(expected["effects"], rel=1e-6, abs=1e-9)


def test_all_zero_features_have_no_rank() -> None:
    view = replace(look_at("basic").gates[0], matrix=np.zeros((6, 6)))
    assert view.effective_rank is None
    assert view.correlation is not None
    assert not view.correlation.any()


def test_probabilities_are_those_that_are_served() -> None:
    """The version's temperature included."""
    folder = ROOT / "model_store/digits/1"
    inspector = Inspector.open(folder)
    manifest = inspector.manifest
    assert manifest.temperature != 1
    data = (ROOT / "examples/drawn/3.png").read_bytes()
    image = decode(data, manifest.input, max_pixels=10**6)
    backend = TorchBackend.open(folder, manifest, Place(device="cpu"))
    (values,) = backend.result(backend.submit([image]))
    served = values[: manifest.answer.classes]
    look = inspector.look(image)
    np.testing.assert_allclose(look.probabilities, served, rtol=0, atol=1e-5)
    switched = inspector.switch(image, "layer4.1.channel")
    assert switched.before[1] == pytest.approx(served.max(), abs=1e-5)
    ablated = next(inspector.ablate(image))
    tempered = np.exp(ablated.logits / manifest.temperature)
    np.testing.assert_allclose(ablated.probabilities, tempered / tempered.sum(), rtol=0, atol=EXACT)

"""The authors' checkpoints, imported, and answered from by the real service, all at once."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import golden_numbers as golden
from gsop.__main__ import main
from gsop.images import decode
from gsop.model.config import GSoPResNetConfig
from gsop.model.official import to_official
from gsop.store.store import load
from tests.commands.models.conftest import checkpoint_of, lively
from tests.support import Server, random_pngs

pytestmark = pytest.mark.slow

SMALL = GSoPResNetConfig(base_width=4, reduced_dim=8, num_classes=7)
CONFIGS = {
    "position": replace(SMALL, attention="position"),
    "fusion-avg": replace(SMALL, attention="fusion_avg"),
    "fusion-max": replace(SMALL, attention="fusion_max"),
    "fusion-concat": replace(SMALL, attention="fusion_concat"),
    "net2": replace(SMALL, head="isqrt"),
    "net2-concat": replace(SMALL, head="isqrt", attention="fusion_concat"),
}
FULL_SIZE = "net1"
"""The whole ResNet-50 with channel gates and 1000 classes, at 224×224."""

MODELS = [FULL_SIZE, *CONFIGS]
IMAGE = random_pngs(1, size=300)[0]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imported")

    def publish(name: str, state_dict: Mapping[str, Tensor], *options: str) -> None:
        path = folder / f"{name}.pth.tar"
        torch.save(checkpoint_of(dict(state_dict)), path)
        arguments = ["import", str(path), "--name", name, "--model-store", str(folder / "store")]
        assert main(["models", *arguments, *options]) == 0

    publish(FULL_SIZE, golden.weights("resnet50_net1_channel"))
    for name, config in CONFIGS.items():
        fusion = ["--fusion", "fusion_max"] if config.attention == "fusion_max" else []
        publish(name, to_official(lively(config)), "--size", "64", *fusion)
    return folder / "store"


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[Server]:
    with Server(store, "--models", ",".join(MODELS), max_batch=1) as running:
        yield running.wait_ready()


def by_hand(store: Path, name: str) -> Tensor:
    """The probabilities of the stored network, (classes,)."""
    manifest, model = load(store / name / "1")
    spec = manifest.input
    pixels = torch.from_numpy(decode(IMAGE, spec, max_pixels=10**6))  # (H, W, 3)
    normalised = (pixels / 255 - torch.tensor(spec.mean)) / torch.tensor(spec.std)
    with torch.inference_mode():
        logits: Tensor = model(normalised.permute(2, 0, 1)[None]).logits
    return logits.softmax(1)[0]


@pytest.mark.parametrize("name", MODELS)
def test_the_service_answers_as_the_imported_network_does(
    server: Server, store: Path, name: str
) -> None:
    expected = by_hand(store, name)
    assert expected.max() < 0.99, "an answer that any network would give proves nothing"

    answer = server.predict(IMAGE, model=name, top_k=1000, attention=True)
    assert answer["model"] == {"name": name, "version": "1"}
    found = np.zeros(len(expected), np.float32)
    for prediction in answer["predictions"]:
        found[prediction["class_id"]] = prediction["probability"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    kinds = {gate["kind"] for gate in answer["attention"]}
    assert kinds == set(load(store / name / "1")[0].config.gate_kinds)


def test_the_fusions_differ_though_their_tensors_do_not(store: Path) -> None:
    average, maximum = (by_hand(store, name) for name in ("fusion-avg", "fusion-max"))
    assert (average - maximum).abs().max() > 1e-3

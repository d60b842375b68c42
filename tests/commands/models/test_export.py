import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from benchmarks import golden_numbers as golden
from gsop.images import InputSpec
from gsop.model.config import GSoPResNetConfig
from gsop.model.resnet import GSoPResNet
from gsop.store.manifest import Manifest, read_manifest
from gsop.store.store import load, publish
from tests.commands.models.conftest import Gsop, lively

BATCHES = (1, 5)
SPEC = InputSpec(height=72, width=72, resize=80, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))
SMALL = GSoPResNetConfig(depth=18, base_width=16, reduced_dim=8, num_classes=7)
ARTICLE = replace(SMALL, flavour="article", last_stride=2)
BOTH = replace(SMALL, attention="fusion_concat", head="isqrt", head_dim=16)
"""Both gates, pooled from and to sizes that do not divide each other, and the matrix root."""

Arrays = Mapping[str, npt.NDArray[np.float32]]


def store_network(root: Path, config: GSoPResNetConfig = SMALL) -> GSoPResNet:
    torch.manual_seed(0)
    model = lively(config) if config.flavour == "paper" else settled(GSoPResNet(config))
    labels = [f"class {i}" for i in range(config.num_classes)]
    publish(
        *(root, model),
        name="net",
        version="1",
        input=SPEC,
        labels=labels,
        metrics={},
        provenance={},
    )
    return model


def settled(model: GSoPResNet) -> GSoPResNet:
    """The network with the statistics of one batch in its BNs, as if it had been trained."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(images(8))
    return model.eval()


def images(batch: int) -> Tensor:
    return golden.normal(batch, (batch, 3, SPEC.height, SPEC.width))


def assert_same_answers(model: GSoPResNet, found: Mapping[int, Arrays]) -> None:
    """Every output by name, to 1e-4 of its largest magnitude."""
    for batch, outputs in found.items():
        with torch.inference_mode():
            logits, gates = model(images(batch))
        assert list(outputs) == ["logits", *gates]
        for name, expected in {"logits": logits, **gates}.items():
            assert outputs[name].shape == expected.shape
            assert golden.error(torch.from_numpy(outputs[name]), expected) < 1e-4, name
        if batch > 1:
            assert logits.std(0).max() > 1e-2, "the network does not look at its images"


def assert_describes_itself(metadata: Mapping[str, str], manifest: Manifest) -> None:
    assert metadata.keys() >= {"gsop.input", "gsop.manifest"}
    assert "float32 (batch, 3, 72, 72)" in metadata["gsop.input"]
    assert "mean (0.5, 0.4, 0.3) and std (0.2, 0.3, 0.25)" in metadata["gsop.input"]
    assert Manifest.model_validate_json(metadata["gsop.manifest"]) == manifest


@pytest.mark.slow
@pytest.mark.parametrize("config", [BOTH, ARTICLE], ids=["paper", "article"])
def test_onnx_runtime_answers_as_torch_does(
    gsop: Gsop, root: Path, tmp_path: Path, config: GSoPResNetConfig
) -> None:
    model, file = store_network(root, config), tmp_path / "net.onnx"
    done = gsop("export", "net", "--format", "onnx", "--output", file)
    assert (done.status, done.err) == (0, "")

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert (given.name, given.type) == ("images", "tensor(float)")
    assert given.shape == ["batch", 3, 72, 72]
    names = [output.name for output in session.get_outputs()]
    found = {
        batch: dict(zip(names, session.run(None, {"images": images(batch).numpy()}), strict=True))
        for batch in BATCHES
    }
    assert_same_answers(model, found)
    metadata = session.get_modelmeta().custom_metadata_map
    assert_describes_itself(metadata, read_manifest(root / "net" / "1"))


WITHOUT_THIS_PROJECT = """
import json, sys
import numpy, torch
extra = {"gsop.input": "", "gsop.manifest": ""}
network = torch.export.load(sys.argv[1], extra_files=extra).module()
for batch in map(int, sys.argv[3:]):
    images = torch.from_numpy(numpy.load(f"{sys.argv[2]}/images{batch}.npy"))
    outputs = {name: values.numpy() for name, values in network(images).items()}
    numpy.savez(f"{sys.argv[2]}/outputs{batch}.npz", **outputs)
assert "gsop" not in sys.modules
print(json.dumps(extra))
"""


@pytest.mark.slow
def test_an_exported_program_runs_without_this_project(
    gsop: Gsop, root: Path, tmp_path: Path
) -> None:
    model, file = store_network(root, BOTH), tmp_path / "net.pt2"
    assert gsop("export", "net/1", "--format", "pt2", "--output", file).status == 0

    for batch in BATCHES:
        np.save(tmp_path / f"images{batch}.npy", images(batch).numpy())
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THIS_PROJECT, file, tmp_path, *map(str, BATCHES)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = {batch: dict(np.load(tmp_path / f"outputs{batch}.npz")) for batch in BATCHES}
    assert_same_answers(model, found)
    assert_describes_itself(json.loads(done.stdout), read_manifest(root / "net" / "1"))


@pytest.mark.parametrize("head", ["gap", "isqrt"])
def test_an_official_checkpoint_is_the_authors_and_comes_back(
    gsop: Gsop, root: Path, tmp_path: Path, head: Any
) -> None:
    config = replace(SMALL, depth=50, base_width=4, head=head)
    model, file = store_network(root, config), tmp_path / "net.pth.tar"
    gsop("export", "net", "--format", "official", "--output", file)

    assert not zipfile.is_zipfile(file), "the release's PyTorch cannot read zip files"
    checkpoint = torch.load(file, weights_only=True)
    assert checkpoint.keys() >= {"epoch", "arch", "state_dict", "best_prec1", "optimizer"}
    assert checkpoint["arch"] == "resnet50"
    net = {"gap": "net1", "isqrt": "net2"}[head]
    theirs = golden.keys(f"resnet50_{net}_channel")
    assert checkpoint["state_dict"].keys() == {f"module.{key}" for key in theirs}
    parameters = [torch.nn.Parameter(p.detach()) for p in model.parameters()]
    torch.optim.SGD(parameters, lr=1.0).load_state_dict(checkpoint["optimizer"])
    assert_describes_itself(checkpoint, read_manifest(root / "net" / "1"))

    assert gsop("import", file, "--name", "again").status == 0
    manifest, again = load(root / "again" / "1")
    assert manifest.config == config
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("config", "remedy"),
    [(replace(SMALL, last_stride=2), "export it as onnx or pt2"), (ARTICLE, "onnx or pt2")],
    ids=["stride", "article"],
)
def test_what_the_authors_code_cannot_compute_is_refused(
    gsop: Gsop, root: Path, tmp_path: Path, config: GSoPResNetConfig, remedy: str
) -> None:
    store_network(root, config)
    file = tmp_path / "net.pth.tar"
    file.write_text("what was there before")
    assert gsop("export", "net", "--format", "official", "--output", file).refused(remedy)
    assert file.read_text() == "what was there before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.pth.tar", "store"]


@pytest.mark.parametrize(
    ("output", "remedy"),
    [
        ("nowhere/net.onnx", "cannot be written (No such file or directory)"),
        ("store", "is a folder: name a file"),
        (".", "is a folder: name a file"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_first(
    gsop: Gsop, root: Path, tmp_path: Path, output: str, remedy: str
) -> None:
    store_network(root)
    done = gsop("export", "net", "--format", "onnx", "--output", tmp_path / output)
    assert done.refused(remedy)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_onnx_without_its_packages_has_an_alternative(
    gsop: Gsop, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_network(root)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    done = gsop("export", "net", "--format", "onnx", "--output", tmp_path / "net.onnx")
    assert done.refused("install the extra `export` of this project, or choose --format pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]

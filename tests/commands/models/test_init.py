import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from benchmarks import golden_numbers as golden
from gsop.model.config import GSoPResNetConfig
from gsop.store.store import load
from tests.commands.models.conftest import Gsop

SMALL = ("--depth", 18, "--stem", "cifar", "--base-width", 4, "--reduced-dim", 4)
NO_NETWORK = "http://127.0.0.1:9"
"""A proxy that is none: the port is assigned to the discard service, which nobody runs."""


def plain_resnet(depth: int, classes: int) -> nn.Module:
    """One of torchvision's ResNets, with random weights and BNs that are no identities."""
    model: nn.Module = torchvision.models.get_model(f"resnet{depth}", num_classes=classes)
    for key, tensor in model.state_dict().items():
        tensor.copy_(golden.draw(key, tensor.shape))
    return model.eval()


def answers(network: nn.Module, size: int = 96) -> Tensor:
    """Logits for three images of different contrast."""
    images = golden.normal(0, (3, 3, size, size)) * torch.tensor([0.2, 1, 5]).view(3, 1, 1, 1)
    with torch.inference_mode():
        output = network(images)
    logits: Tensor = output if isinstance(output, Tensor) else output.logits
    return logits


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of torchvision, empty, and no network to fill it from."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for protocol in ("http", "https"):
        monkeypatch.setenv(f"{protocol}_proxy", NO_NETWORK)
    # Who asks first has these proxies kept for the whole process.
    monkeypatch.setattr(urllib.request, "_opener", None)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("options", "config"),
    [
        ((), {}),
        (("--head", "isqrt", "--head-dim", 9), {"head": "isqrt", "head_dim": 9}),
        (("--attention", "fusion_max"), {"attention": "fusion_max"}),
        (("--flavour", "article"), {"flavour": "article"}),
        (("--gated-blocks", "all", "--last-stride", 2), {"gated_blocks": "all", "last_stride": 2}),
        (("--depth", 164), {"depth": 164}),
        (("--stem", "imagenet"), {"stem": "imagenet"}),
    ],
    ids=str,
)
def test_a_network_is_made_as_it_is_asked_for(
    gsop: Gsop, root: Path, options: tuple[object, ...], config: dict[str, Any]
) -> None:
    done = gsop("init", "--name", "new", "--classes", 5, *SMALL, *options)
    assert done.status == 0
    assert "train it" in done.out
    small = GSoPResNetConfig(depth=18, stem="cifar", base_width=4, reduced_dim=4, num_classes=5)
    manifest, model = load(root / "new" / "1")
    assert manifest.config == model.config == replace(small, **config)
    size = 224 if manifest.config.stem == "imagenet" else 32
    assert (manifest.input.height, manifest.input.width) == (size, size)


def test_the_defaults_are_the_papers(gsop: Gsop, root: Path) -> None:
    gsop("init", "--name", "new", "--base-width", 2, "--reduced-dim", 2)
    manifest, _ = load(root / "new" / "1")
    assert manifest.config == GSoPResNetConfig(base_width=2, reduced_dim=2)
    assert manifest.labels[0] == "tench"


def test_the_seed_decides_the_weights(gsop: Gsop, root: Path) -> None:
    for seed in (7, 7, 8):
        gsop("init", "--name", "new", "--classes", 5, "--seed", seed, *SMALL)
    first, again, other = (load(root / "new" / v)[1].state_dict() for v in ("1", "2", "3"))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["stem.conv.weight"], other["stem.conv.weight"])


def test_labels_say_how_many_classes_there_are(gsop: Gsop, root: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\ndog\n")
    gsop("init", "--name", "pets", "--labels", labels, *SMALL)
    manifest, _ = load(root / "pets" / "1")
    assert (manifest.labels, manifest.config.num_classes) == (("cat", "dog"), 2)
    contradiction = gsop("init", "--name", "pets", "--labels", labels, "--classes", 3, *SMALL)
    assert contradiction.refused("one line a class")


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (("--depth", 164), "stem must be 'cifar'"),
        (("--flavour", "article", "--attention", "position"), "attention must be 'channel'"),
        (("--classes", 0), "at least 1"),
        (("--resize", 10), "change --size"),
        (("--name", "../new"), "cannot name a model"),
        (("--backbone", "nowhere.pth"), "nowhere.pth cannot be read"),
    ],
    ids=str,
)
def test_what_cannot_be_made_is_refused(
    gsop: Gsop, root: Path, options: tuple[object, ...], remedy: str
) -> None:
    assert gsop("init", "--name", "new", *options).refused(remedy)
    assert not root.exists()


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "suffix"), [(18, "pth"), (50, "safetensors")])
def test_on_a_file_it_answers_as_the_plain_backbone_does(
    gsop: Gsop, root: Path, tmp_path: Path, depth: int, suffix: str
) -> None:
    plain = plain_resnet(depth, classes=7)
    file = tmp_path / f"backbone.{suffix}"
    save: Callable[..., None] = torch.save if suffix == "pth" else safetensors.torch.save_file
    save(plain.state_dict(), file)

    done = gsop("init", "--name", "new", "--backbone", file)
    assert "answers as its backbone does" in done.out
    manifest, model = load(root / "new" / "1")
    assert (manifest.config.depth, manifest.config.num_classes) == (depth, 7)
    assert manifest.config.last_stride == 2
    assert manifest.provenance["backbone"] == file.name
    expected, found = answers(plain), answers(model)
    assert torch.equal(found.argmax(1), expected.argmax(1))
    assert golden.error(found, expected) < 1e-3
    assert golden.error(expected[0], expected[2]) > 0.1, "the backbone does not look at its images"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "note"),
    [
        (("--classes", 5), "its head is new"),
        (("--head", "isqrt"), "its head is new"),
        (("--last-stride", 1), "fine-tune it"),
    ],
    ids=str,
)
def test_a_backbone_that_is_changed_is_said_to_need_training(
    gsop: Gsop, root: Path, tmp_path: Path, options: tuple[object, ...], note: str
) -> None:
    plain = plain_resnet(18, classes=7)
    torch.save(plain.state_dict(), tmp_path / "backbone.pth")
    done = gsop("init", "--name", "new", "--backbone", tmp_path / "backbone.pth", *options)
    assert note in done.out
    _, model = load(root / "new" / "1")
    assert torch.equal(model.state_dict()["stem.conv.weight"], plain.state_dict()["conv1.weight"])
    assert answers(model).isfinite().all()


@pytest.mark.slow
def test_a_backbone_that_does_not_fit_is_refused(gsop: Gsop, root: Path, tmp_path: Path) -> None:
    file = tmp_path / "backbone.pth"
    torch.save(plain_resnet(18, classes=7).state_dict(), file)
    begin = ("init", "--name", "new", "--backbone", file)
    assert gsop(*begin, "--depth", 50).refused("backbone.pth: the backbone is a ResNet-18")
    assert gsop(*begin, "--attention", "position").refused("only attention 'channel'")
    torch.save({"conv1.weight": torch.ones(64, 3, 7, 7)}, file)
    assert gsop(*begin).refused("backbone.pth: no ResNet has stages")
    assert not root.exists()


@pytest.mark.slow
def test_torchvisions_weights_come_from_its_cache(gsop: Gsop, root: Path, cache: Path) -> None:
    plain = plain_resnet(18, classes=1000)
    weights = torchvision.models.ResNet18_Weights.DEFAULT
    # As torchvision's own file: saved before BNs counted their batches.
    old = {key: t for key, t in plain.state_dict().items() if "num_batches" not in key}
    torch.save(old, cache / Path(weights.url).name)

    done = gsop("init", "--name", "new", "--backbone", "torchvision", "--depth", 18)
    assert done.status == 0, done.err
    manifest, model = load(root / "new" / "1")
    assert (manifest.input.height, manifest.input.resize) == (224, 256)
    assert manifest.labels[1] == "goldfish"
    assert manifest.provenance["backbone"] == str(weights)
    expected, found = answers(plain), answers(model)
    assert torch.equal(found.argmax(1), expected.argmax(1))
    assert golden.error(found, expected) < 1e-3


def test_weights_that_cannot_be_fetched_have_an_alternative(
    gsop: Gsop, root: Path, cache: Path
) -> None:
    done = gsop("init", "--name", "new", "--backbone", "torchvision", "--depth", 18)
    assert done.refused("--backbone FILE")
    assert "https://download.pytorch.org/models/resnet18" in done.err
    assert not root.exists()


def test_torchvision_has_no_network_for_cifar(gsop: Gsop) -> None:
    options = ("--backbone", "torchvision", "--depth", 164, "--stem", "cifar")
    assert gsop("init", "--name", "new", *options).refused("torchvision has no ResNet-164")

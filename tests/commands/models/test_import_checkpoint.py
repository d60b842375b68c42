from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gsop.model.config import GSoPResNetConfig
from gsop.model.official import to_official
from gsop.store.store import load
from tests.commands.models.conftest import Gsop, checkpoint_of, lively

SMALL = GSoPResNetConfig(depth=50, base_width=4, reduced_dim=8, num_classes=7)
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """A network of ``SMALL``, changed, as the authors would have saved it."""

    def save_it(config: GSoPResNetConfig = SMALL, **replaced: Any) -> Path:
        path = tmp_path / "model_best.pth.tar"
        torch.save(checkpoint_of(to_official(lively(config))) | replaced, path)
        return path

    return save_it


@pytest.mark.parametrize("head", ["gap", "isqrt"])
@pytest.mark.parametrize(
    "attention", ["channel", "position", "fusion_avg", "fusion_max", "fusion_concat"]
)
def test_every_kind_of_the_authors_networks_is_imported(
    gsop: Gsop, root: Path, save: Save, head: Any, attention: Any
) -> None:
    config = replace(SMALL, head=head, attention=attention)
    fusion = ["--fusion", attention] if attention == "fusion_max" else []
    done = gsop("import", save(config), "--name", "theirs", *fusion)
    assert (done.status, done.err) == (0, "")
    assert "passed over, as no part of a network: optimizer\n" in done.out

    manifest, model = load(root / "theirs" / "1")
    assert manifest.config == model.config == config
    expected = lively(config).state_dict()
    torch.testing.assert_close(model.state_dict(), expected, rtol=0, atol=0)
    assert gsop("verify").out == "theirs/1: good\n"


def test_the_manifest_says_whose_it_is_and_what_is_only_claimed(
    gsop: Gsop, root: Path, save: Save
) -> None:
    gsop("import", save(), "--name", "theirs", "--version", "2019")
    manifest, _ = load(root / "theirs" / "2019")
    assert manifest.metrics["best_prec1"] == 77.5
    assert "claim" in manifest.metrics["how"]
    assert "top1" not in manifest.metrics
    assert manifest.provenance.items() >= {
        ("checkpoint", "model_best.pth.tar"),
        ("arch", "resnet50"),
        ("epoch", 95),
    }
    assert manifest.labels == tuple(f"class {i}" for i in range(7))


@pytest.mark.parametrize("best", [0, torch.tensor(0.0)])
def test_a_claim_of_nothing_is_none(gsop: Gsop, root: Path, save: Save, best: object) -> None:
    gsop("import", save(best_prec1=best), "--name", "theirs")
    assert load(root / "theirs" / "1")[0].metrics == {}


def test_images_are_prepared_as_in_the_paper_or_as_asked(
    gsop: Gsop, root: Path, save: Save
) -> None:
    path = save()
    gsop("import", path, "--name", "usual")
    gsop("import", path, "--name", "other", "--size", 96, "--resize", 100, "--std", 0.1, 0.2, 0.3)
    usual, other = (load(root / name / "1")[0].input for name in ("usual", "other"))
    assert (usual.height, usual.width, usual.resize) == (224, 224, 256)
    assert (usual.mean, usual.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (other.height, other.width, other.resize) == (96, 96, 100)
    assert (other.mean, other.std) == (usual.mean, (0.1, 0.2, 0.3))


def test_a_thousand_classes_are_imagenets(gsop: Gsop, root: Path, save: Save) -> None:
    gsop("import", save(replace(SMALL, num_classes=1000)), "--name", "theirs")
    assert load(root / "theirs" / "1")[0].labels[1] == "goldfish"


def test_labels_come_from_a_file(gsop: Gsop, root: Path, save: Save, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join("abcdefg"))
    gsop("import", save(), "--name", "theirs", "--labels", labels)
    assert load(root / "theirs" / "1")[0].labels == tuple("abcdefg")
    labels.write_text("a\nb\n")
    refused = gsop("import", save(), "--name", "theirs", "--labels", labels)
    assert refused.refused("one line a class")


def test_versions_are_numbered_and_never_replaced(gsop: Gsop, root: Path, save: Save) -> None:
    path = save()
    for number in ("1", "2"):
        assert f"published theirs/{number} in" in gsop("import", path, "--name", "theirs").out
    again = gsop("import", path, "--name", "theirs", "--version", "2")
    assert again.refused("publish under a new version")


def test_checkpoints_of_old_pytorch_are_imported(gsop: Gsop, root: Path, tmp_path: Path) -> None:
    counted = to_official(lively(SMALL))
    path = tmp_path / "old.pth.tar"
    torch.save(
        {key: tensor for key, tensor in counted.items() if "num_batches" not in key},
        path,
        _use_new_zipfile_serialization=False,
    )
    assert gsop("import", path, "--name", "old").status == 0
    assert load(root / "old" / "1")[1].config == SMALL


def test_a_plain_resnet_is_sent_to_init(gsop: Gsop, root: Path, save: Save) -> None:
    path = save(replace(SMALL, gated_blocks="none"))
    assert gsop("import", path, "--name", "plain").refused("gsop models init --backbone")
    assert not root.exists()


def test_a_checkpoint_that_does_not_fit_is_named_with_the_first_key(
    gsop: Gsop, root: Path, save: Save
) -> None:
    tensors = to_official(lively(SMALL))
    del tensors["layer3.5.row_bn.weight"]
    done = gsop("import", save(state_dict=tensors), "--name", "theirs")
    assert done.refused("model_best.pth.tar: layer3.5.row_bn.weight is missing")
    assert not root.exists()


def test_weights_that_diverged_are_refused(gsop: Gsop, root: Path, save: Save) -> None:
    tensors = to_official(lively(SMALL))
    tensors["fc.bias"][3] = float("nan")
    assert gsop("import", save(state_dict=tensors), "--name", "theirs").refused("NaN or infinity")
    assert not root.exists()

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from gsop.errors import StoreError
from gsop.model.resnet import GSoPResNet
from gsop.store.catalog import list_versions
from gsop.store.manifest import MANIFEST_FILE, WEIGHTS_FILE, read_manifest
from gsop.store.store import load, publish, verify
from tests.store.conftest import SPEC, Publish

KEY = "layer1.0.conv1.weight"


def change_manifest(folder: Path, **fields: Any) -> None:
    path = folder / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def write_weights(folder: Path, data: bytes) -> None:
    """Replace the weights, and let the manifest vouch for them."""
    (folder / WEIGHTS_FILE).write_bytes(data)
    change_manifest(folder, sha256=hashlib.sha256(data).hexdigest())


def alter_weights(folder: Path, alter: Callable[[dict[str, Tensor]], object]) -> None:
    weights = safetensors.torch.load_file(folder / WEIGHTS_FILE)
    alter(weights)
    write_weights(folder, safetensors.torch.save(weights))


def test_what_is_published_is_loaded(folder: Path, model: GSoPResNet) -> None:
    manifest, loaded = load(folder)
    images = torch.randn(2, 3, 32, 32)
    expected, found = model(images), loaded(images)
    assert not loaded.training
    assert manifest.config == loaded.config == model.config
    assert (manifest.input, manifest.labels) == (SPEC, ("a", "b", "c"))
    assert (manifest.metrics, manifest.provenance) == ({"top1": 0.5}, {"recipe": "none"})
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=0)
    torch.testing.assert_close(found.gates, expected.gates, rtol=0, atol=0)


def test_verify_returns_the_manifest(folder: Path) -> None:
    assert verify(folder) == read_manifest(folder)


def test_another_hash_is_refused(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS_FILE).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(data)
    with pytest.raises(StoreError, match=r"model\.safetensors has SHA-256 \w+, its manifest says"):
        load(folder)


def test_missing_weights_are_refused(folder: Path) -> None:
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(StoreError, match=r"model\.safetensors is missing: publish"):
        load(folder)


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_truncated_weights_are_refused(folder: Path, length: int) -> None:
    write_weights(folder, (folder / WEIGHTS_FILE).read_bytes()[:length])
    with pytest.raises(StoreError, match="is no safetensors file"):
        load(folder)


def test_a_missing_key_is_refused(folder: Path) -> None:
    alter_weights(folder, lambda weights: weights.pop(KEY))
    with pytest.raises(StoreError, match=f"lacks {KEY}: correct 'config'"):
        load(folder)


def test_an_extra_key_is_refused(folder: Path) -> None:
    alter_weights(folder, lambda weights: weights.update(extra=torch.zeros(1)))
    with pytest.raises(StoreError, match="has extra, which the network has not"):
        load(folder)


def test_many_wrong_keys_are_named_in_short(folder: Path) -> None:
    alter_weights(folder, lambda weights: [weights.pop(key) for key in sorted(weights)[:9]])
    with pytest.raises(StoreError, match="and 6 more keys"):
        load(folder)


def test_a_wrong_shape_is_refused(folder: Path) -> None:
    alter_weights(folder, lambda weights: weights.update({KEY: torch.zeros(4, 4, 1, 1)}))
    with pytest.raises(
        StoreError, match=rf"{KEY} has shape \(4, 4, 1, 1\), the network's has \(4, 4, 3, 3\)"
    ):
        load(folder)


def test_a_wrong_type_is_refused(folder: Path) -> None:
    alter_weights(folder, lambda weights: weights.update({KEY: weights[KEY].half()}))
    with pytest.raises(StoreError, match=rf"{KEY} is torch\.float16, the network's is"):
        load(folder)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused(folder: Path, number: float) -> None:
    alter_weights(folder, lambda weights: weights[KEY].view(-1)[3:4].fill_(number))
    with pytest.raises(StoreError, match=f"{KEY} holds NaN or infinity"):
        load(folder)


def test_an_unknown_format_is_refused(folder: Path) -> None:
    change_manifest(folder, format=2)
    with pytest.raises(StoreError, match="has format 2, this service reads format 1"):
        load(folder)


def test_labels_that_do_not_match_the_classes_are_refused(folder: Path) -> None:
    change_manifest(folder, labels=["a", "b"])
    with pytest.raises(StoreError, match="2 labels for 3 classes"):
        load(folder)


def test_a_manifest_of_another_name_is_refused(folder: Path) -> None:
    change_manifest(folder, name="other")
    with pytest.raises(StoreError, match=r"describes other/1 but lies in tiny/1"):
        load(folder)


def test_an_unknown_field_of_the_configuration_is_refused(folder: Path) -> None:
    config = json.loads((folder / MANIFEST_FILE).read_text())["config"]
    change_manifest(folder, config=config | {"dephth": 50})
    with pytest.raises(StoreError, match=r"config\.dephth: Unexpected keyword"):
        load(folder)


@pytest.mark.parametrize(
    ("width", "told"),
    [(10**6, "has shape"), (10**15, "no memory could hold"), (2**70, "no memory could hold")],
)
def test_a_network_is_no_larger_than_its_weights(folder: Path, width: int, told: str) -> None:
    config = json.loads((folder / MANIFEST_FILE).read_text())["config"]
    change_manifest(folder, config=config | {"base_width": width})
    with pytest.raises(StoreError, match=told):
        load(folder)


def test_what_is_no_number_is_refused(folder: Path) -> None:
    change_manifest(folder, metrics={"top1": float("nan")})
    with pytest.raises(StoreError, match="NaN is no number"):
        load(folder)


@pytest.mark.parametrize("name", ["../x", "..", ".x", "a/b", "/x", "", "a" * 65, "a\n"])
def test_a_name_cannot_climb_out_of_the_root(root: Path, publish_tiny: Publish, name: str) -> None:
    for field in ("name", "version"):
        with pytest.raises(StoreError, match="cannot name a model or version"):
            publish_tiny(**{field: name})
    assert not root.exists()


def test_an_existing_version_is_never_changed(folder: Path, publish_tiny: Publish) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(StoreError, match="versions never change: publish under a new version"):
        publish_tiny(labels=["x", "y", "z"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_labels_that_do_not_match_are_not_published(root: Path, publish_tiny: Publish) -> None:
    with pytest.raises(StoreError, match="2 labels for 3 classes"):
        publish_tiny(labels=["a", "b"])
    assert not root.exists()


def test_a_model_that_diverged_is_not_published(
    root: Path, model: GSoPResNet, publish_tiny: Publish
) -> None:
    with torch.no_grad():
        model.get_parameter(KEY).view(-1)[0] = float("nan")
    with pytest.raises(StoreError, match=f"{KEY} holds NaN or infinity"):
        publish_tiny()
    assert not root.exists()


def test_a_store_that_cannot_be_written_says_so(root: Path, publish_tiny: Publish) -> None:
    root.write_text("a file where the store should be")
    with pytest.raises(StoreError, match=r"tiny/1 cannot be written"):
        publish_tiny()


def test_a_failed_write_leaves_nothing(
    root: Path, publish_tiny: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(StoreError, match="No space left"):
        publish_tiny()
    assert list((root / "tiny").iterdir()) == []


def test_the_version_can_be_read_by_whoever_the_umask_allows(folder: Path) -> None:
    plain = folder.parent.parent / "plain"
    plain.mkdir()
    assert folder.stat().st_mode == plain.stat().st_mode


def test_of_publishers_at_the_same_time_one_wins(
    root: Path, model: GSoPResNet, publish_tiny: Publish
) -> None:
    def attempt(metric: int) -> Path | StoreError:
        try:
            return publish_tiny(metrics={"attempt": metric})
        except StoreError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(attempt, range(8)))
    winners = [number for number, result in enumerate(results) if isinstance(result, Path)]
    assert len(winners) == 1
    assert verify(root / "tiny" / "1").metrics == {"attempt": winners[0]}
    assert all("versions never change" in str(r) for r in results if isinstance(r, StoreError))
    assert [path.name for path in (root / "tiny").iterdir()] == ["1"]


DYING_WRITER = """
import os, signal, sys
from pathlib import Path
from gsop.model.resnet import GSoPResNet
from gsop.store import store
from tests.store.conftest import CONFIG, SPEC

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

setattr({where}, die)
store.publish(
    Path(sys.argv[1]), GSoPResNet(CONFIG), name="tiny", version="1", input=SPEC,
    labels="abc", metrics={{}}, provenance={{}},
)
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["os, 'fsync'", "Path, 'rename'"])
def test_a_writer_that_dies_leaves_no_version(
    root: Path, publish_tiny: Publish, where: str
) -> None:
    program = DYING_WRITER.format(where=where)
    done = subprocess.run([sys.executable, "-c", program, root], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert [path.name.startswith(".1.") for path in (root / "tiny").iterdir()] == [True]
    assert list_versions(root) == []
    assert verify(publish_tiny()).version == "1"


def test_a_model_is_published_from_any_memory_layout(root: Path, model: GSoPResNet) -> None:
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch forgot this overload
    folder = publish(
        root, model, name="m", version="1", input=SPEC, labels="abc", metrics={}, provenance={}
    )
    _, loaded = load(folder)
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)

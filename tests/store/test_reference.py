from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from gsop.errors import StoreError
from gsop.gates.reference import Reference
from gsop.store.manifest import read_manifest
from gsop.store.reference import (
    REFERENCE_FILE,
    encode_reference,
    read_reference,
    write_reference,
)
from gsop.store.store import load, verify

Publish = Callable[..., Path]


def made(folder: Path, count: int = 60, seed: int = 0) -> Reference:
    """Of random answers."""
    layout = read_manifest(folder).answer
    values = np.random.default_rng(seed).uniform(0.1, 0.9, (count, layout.width))
    return Reference.measure(layout, values.astype(np.float32), what="a test's images")


def test_a_version_without_a_reference_is_a_good_one(folder: Path) -> None:
    assert read_reference(folder, verify(folder)) is None


def test_a_reference_comes_back_as_it_was(folder: Path) -> None:
    manifest, reference = read_manifest(folder), made(folder)
    write_reference(folder, manifest, made(folder, seed=1))
    write_reference(folder, manifest, reference)
    again = read_reference(folder, verify(folder))
    assert again is not None
    assert again.digest == reference.digest
    assert again.facts == reference.facts
    assert {path.name for path in folder.iterdir()} == {
        "manifest.json",
        "model.safetensors",
        REFERENCE_FILE,
    }


def test_a_version_is_published_with_its_reference(folder: Path, publish_tiny: Publish) -> None:
    reference = made(folder)
    second = publish_tiny(version="2", reference=reference)
    again = read_reference(second, verify(second))
    assert again is not None
    assert again.digest == reference.digest


def test_a_damaged_reference_is_refused_and_the_version_loads(folder: Path) -> None:
    manifest = read_manifest(folder)
    path = write_reference(folder, manifest, made(folder))
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match="make it anew"):
        verify(folder)
    load(folder)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(StoreError, match="no reference of tiny/1"):
        read_reference(folder, manifest)


def test_a_changed_limit_is_noticed(folder: Path) -> None:
    manifest, reference = read_manifest(folder), made(folder)
    facts = reference.facts.model_copy(update={"limit": 99.0})
    header = {"weights": manifest.sha256, "facts": facts.model_dump_json()}
    path = folder / REFERENCE_FILE
    path.write_bytes(
        safetensors.numpy.save(reference.arrays, header | {"digest": reference.digest})
    )
    with pytest.raises(StoreError, match="the file was changed"):
        read_reference(folder, manifest)


def test_a_reference_of_other_weights_is_refused(folder: Path) -> None:
    (folder / REFERENCE_FILE).write_bytes(encode_reference(made(folder), "0" * 64))
    with pytest.raises(StoreError, match="other weights"):
        read_reference(folder, read_manifest(folder))


@pytest.mark.parametrize("facts", ["", "{}", '{"limit": 0}', "[]"])
def test_what_it_says_of_itself_is_checked(folder: Path, facts: str) -> None:
    manifest = read_manifest(folder)
    header = {"weights": manifest.sha256, "facts": facts, "digest": ""}
    data = safetensors.numpy.save(made(folder).arrays, header)
    (folder / REFERENCE_FILE).write_bytes(data)
    with pytest.raises(StoreError, match="is not valid"):
        read_reference(folder, manifest)


def test_arrays_of_another_network_are_refused(folder: Path) -> None:
    manifest, reference = read_manifest(folder), made(folder)
    header = {"weights": manifest.sha256, "facts": reference.facts.model_dump_json()}
    arrays = reference.arrays | {"population.centre": np.zeros(3, np.float32)}
    (folder / REFERENCE_FILE).write_bytes(safetensors.numpy.save(arrays, header))
    with pytest.raises(StoreError, match=r"population|centre"):
        read_reference(folder, manifest)

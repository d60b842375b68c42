import shutil
from pathlib import Path

import pytest

from gsop.errors import StoreError
from gsop.store import catalog
from gsop.store.catalog import list_versions, resolve
from gsop.store.manifest import Manifest, read_manifest
from gsop.store.remove import remove
from gsop.store.store import verify
from tests.store.conftest import Publish


def test_a_removed_version_is_gone_and_can_be_published_anew(
    root: Path, publish_tiny: Publish
) -> None:
    folder = publish_tiny()
    remove(folder)
    assert list_versions(root) == []
    assert list(folder.parent.iterdir()) == []
    assert verify(publish_tiny()).version == "1"


def test_a_version_that_goes_while_it_is_listed_is_no_bad_one(
    root: Path, publish_tiny: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_tiny(version="1")
    newest = publish_tiny(version="2")

    def read_late(folder: Path) -> Manifest:
        if folder == newest and newest.exists():
            remove(newest)
        return read_manifest(folder)

    monkeypatch.setattr(catalog, "read_manifest", read_late)
    assert [version.reference for version in list_versions(root)] == ["tiny/1"]
    assert resolve(root, "tiny").version == "1"


def test_a_removal_that_is_cut_short_leaves_no_version(
    root: Path, publish_tiny: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> None:
        raise OSError(5, "Input/output error")

    folder = publish_tiny()
    monkeypatch.setattr(shutil, "rmtree", fail)
    with pytest.raises(StoreError, match=r"\.1\.\w+ cannot be deleted \(Input/output error\)"):
        remove(folder)
    assert list_versions(root) == []


def test_a_version_that_somebody_else_removed_is_said_to_be_gone(folder: Path) -> None:
    remove(folder)
    with pytest.raises(StoreError, match="is gone"):
        remove(folder)

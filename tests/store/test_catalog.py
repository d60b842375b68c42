import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gsop.errors import StoreError
from gsop.store.catalog import find, list_versions, next_version, resolve
from gsop.store.manifest import MANIFEST_FILE, WEIGHTS_FILE
from tests.store.conftest import Publish


def test_versions_are_listed_by_name_and_then_as_people_count(
    root: Path, publish_tiny: Publish
) -> None:
    for name, version in [("b", "1"), ("a", "10"), ("a", "9"), ("a", "1.10"), ("a", "1.9")]:
        publish_tiny(name=name, version=version)
    listed = [stored.reference for stored in list_versions(root)]
    assert listed == ["a/1.9", "a/1.10", "a/9", "a/10", "b/1"]


def test_an_entry_carries_the_manifest_and_the_folder(root: Path, folder: Path) -> None:
    (stored,) = list_versions(root)
    assert (stored.name, stored.version, stored.folder, stored.error) == ("tiny", "1", folder, None)
    assert stored.manifest is not None
    assert stored.manifest.labels == ("a", "b", "c")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not JSON"),
        ("{}", "has format None"),
        ('{"format": 2}', "has format 2, this service reads format 1"),
        ('{"format": 1}', "is not valid"),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}", "is not JSON"),
    ],
)
def test_a_bad_manifest_is_listed_with_the_reason(
    root: Path, folder: Path, text: str, reason: str
) -> None:
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")
    (stored,) = list_versions(root)
    assert stored.manifest is None
    assert stored.error is not None
    assert reason in stored.error
    assert str(folder / MANIFEST_FILE) in stored.error


def test_a_neighbour_that_may_not_be_read_is_listed_and_in_nobodys_way(
    root: Path, publish_tiny: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_tiny(name="tiny", version="1")
    (root / "secret").mkdir()
    entries = Path.iterdir

    def iterdir(path: Path) -> object:  # root, who runs tests, may read everything
        if path.name == "secret":
            raise PermissionError(13, "Permission denied")
        return entries(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    secret, tiny = list_versions(root)
    assert (secret.name, secret.version, secret.manifest) == ("secret", "", None)
    assert "Permission denied" in str(secret.error)
    assert resolve(root, "tiny") == tiny.manifest
    with pytest.raises(StoreError, match="Permission denied"):
        resolve(root, "secret")


def test_a_folder_without_a_manifest_is_listed_with_the_reason(root: Path) -> None:
    (root / "tiny" / "1").mkdir(parents=True)
    (stored,) = list_versions(root)
    assert stored.error is not None
    assert "manifest.json is missing" in stored.error


def test_hidden_and_misnamed_folders_and_loose_files_are_passed_over(
    root: Path, folder: Path
) -> None:
    shutil.copytree(folder, folder.with_name(".2.abcd"))
    (root / ".git").mkdir()
    (root / "lost+found").mkdir()
    (root / "README.md").write_text("hello")
    (root / "tiny" / "notes.txt").write_text("hello")
    assert [stored.reference for stored in list_versions(root)] == ["tiny/1"]


def test_a_missing_root_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere is no folder: create it"):
        list_versions(tmp_path / "nowhere")


def test_a_file_as_root_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="is no folder"):
        list_versions(tmp_path / "file")


def test_a_name_alone_means_its_newest_version(root: Path, publish_tiny: Publish) -> None:
    for version in ("2", "10", "9"):
        publish_tiny(version=version)
    assert resolve(root, "tiny").version == "10"
    assert resolve(root, "tiny/9").version == "9"


def test_a_name_alone_passes_over_a_newest_version_that_cannot_be_read(
    root: Path, publish_tiny: Publish
) -> None:
    publish_tiny(version="1")
    (publish_tiny(version="2") / MANIFEST_FILE).write_text("{")
    assert resolve(root, "tiny").version == "1"
    with pytest.raises(StoreError, match="is not JSON"):
        resolve(root, "tiny/2")


def test_a_name_whose_only_version_cannot_be_read_says_why(root: Path, folder: Path) -> None:
    (folder / MANIFEST_FILE).unlink()
    with pytest.raises(StoreError, match="is missing"):
        resolve(root, "tiny")


@pytest.mark.parametrize("reference", ["other", "tiny/2"])
def test_an_unknown_reference_says_what_there_is(root: Path, folder: Path, reference: str) -> None:
    with pytest.raises(StoreError, match=f"holds no {reference}; it holds tiny/1"):
        resolve(root, reference)


def test_an_empty_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="it holds no version at all: publish one"):
        resolve(tmp_path, "tiny")


def test_a_folder_within_a_store_says_that_it_is_none(root: Path, folder: Path) -> None:
    for inner, what in ((folder, "version"), (folder.parent, "model")):
        with pytest.raises(StoreError, match=f"it is a {what} itself: name the folder above"):
            resolve(inner, "tiny")


@pytest.mark.parametrize(
    "reference",
    ["", "/", "tiny/", "/1", "..", "../tiny", "tiny/..", "tiny/../tiny/1", "tiny/1/", ".tiny/1"],
)
def test_a_reference_cannot_climb_out_of_the_root(root: Path, folder: Path, reference: str) -> None:
    with pytest.raises(StoreError, match=f"^{re.escape(repr(reference))} names no version"):
        resolve(root, reference)


def test_a_version_that_calls_itself_by_another_name_is_refused(root: Path, folder: Path) -> None:
    shutil.copytree(folder, root / "other" / "1")
    with pytest.raises(StoreError, match=r"describes tiny/1 but lies in other/1"):
        resolve(root, "other/1")


def test_listing_needs_no_weights_and_no_torch(root: Path, folder: Path) -> None:
    (folder / WEIGHTS_FILE).unlink()
    program = (
        "import sys; from pathlib import Path; from gsop.store.catalog import resolve;"
        f"print(resolve(Path({str(root)!r}), 'tiny').version, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["1", "False"], done.stderr


def test_a_name_finds_all_its_versions_readable_or_not(root: Path, publish_tiny: Publish) -> None:
    for name, version in [("tiny", "10"), ("tiny", "9"), ("other", "1")]:
        publish_tiny(name=name, version=version)
    (root / "tiny" / "9" / MANIFEST_FILE).unlink()
    assert [version.reference for version in find(root, "tiny")] == ["tiny/9", "tiny/10"]
    assert [version.reference for version in find(root, "tiny/9")] == ["tiny/9"]
    with pytest.raises(StoreError, match="holds no tiny/1; it holds other/1, tiny/9, tiny/10"):
        find(root, "tiny/1")


def test_the_next_version_is_a_number_that_was_not_used(root: Path, publish_tiny: Publish) -> None:
    assert next_version(root, "tiny") == "1"
    for version in ("9", "10", "trial", "11b"):
        publish_tiny(version=version)
    assert next_version(root, "tiny") == "11"
    assert next_version(root, "other") == "1"


def manifest_with(store: Path, text: str) -> str:
    """Why the only version of a store cannot be read, whose manifest is this text."""
    folder = store / "m" / "1"
    folder.mkdir(parents=True)
    (folder / MANIFEST_FILE).write_text(text)
    (stored,) = list_versions(store)
    assert stored.error is not None
    return stored.error


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"metrics":' * 100_000,
        '{"format": 1, "metrics": {"top1": ' + "9" * 5000 + "}}",
    ],
    ids=["deep", "deep in a member", "digits"],
)
def test_a_manifest_that_python_cannot_take_in_is_a_bad_one(tmp_path: Path, text: str) -> None:
    assert "is not JSON" in manifest_with(tmp_path, text)


def test_a_pipe_in_place_of_a_manifest_is_not_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "m" / "1"
    folder.mkdir(parents=True)
    os.mkfifo(folder / MANIFEST_FILE)
    (stored,) = list_versions(tmp_path)
    assert "no ordinary file" in str(stored.error)

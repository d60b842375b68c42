import io
from pathlib import Path

import pytest

from gsop.store.catalog import list_versions
from gsop.store.manifest import MANIFEST_FILE
from tests.commands.models.conftest import Gsop
from tests.stores import publish_tiny


def stored(root: Path) -> list[str]:
    return [version.reference for version in list_versions(root)]


@pytest.fixture(autouse=True)
def two_versions(root: Path) -> None:
    publish_tiny(root, version="1")
    publish_tiny(root, version="2")


def test_a_version_is_removed_unasked(gsop: Gsop, root: Path) -> None:
    assert gsop("remove", "tiny/1", "--yes").status == 0
    assert stored(root) == ["tiny/2"]
    assert [path.name for path in (root / "tiny").iterdir()] == ["2"]


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("y", ["tiny/2"]),
        ("Yes", ["tiny/2"]),
        ("n", ["tiny/1", "tiny/2"]),
        ("", ["tiny/1", "tiny/2"]),
    ],
)
def test_the_answer_is_obeyed(
    gsop: Gsop, root: Path, monkeypatch: pytest.MonkeyPatch, answer: str, left: list[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{answer}\n"))
    done = gsop("remove", "tiny/1")
    assert done.status == len(left) - 1
    assert str(root / "tiny" / "1") in done.out
    assert stored(root) == left


def test_nothing_is_removed_where_nobody_answers(
    gsop: Gsop, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert gsop("remove", "tiny/1").refused("--yes")
    assert stored(root) == ["tiny/1", "tiny/2"]


def test_a_whole_model_is_not_removed_at_once(gsop: Gsop, root: Path) -> None:
    assert gsop("remove", "tiny", "--yes").refused("write tiny/1, tiny/2")
    assert stored(root) == ["tiny/1", "tiny/2"]


def test_a_version_that_cannot_be_read_can_be_removed(gsop: Gsop, root: Path) -> None:
    (root / "tiny" / "1" / MANIFEST_FILE).write_text("{")
    assert gsop("remove", "tiny/1", "--yes").status == 0
    assert stored(root) == ["tiny/2"]


@pytest.mark.parametrize("reference", ["tiny/3", "nobody/1"])
def test_an_unknown_version_says_what_there_is(gsop: Gsop, reference: str) -> None:
    assert gsop("remove", reference, "--yes").refused("it holds tiny/1, tiny/2")


@pytest.mark.parametrize("reference", ["../tiny/1", "tiny/..", "tiny/", "/", ""])
def test_nothing_outside_the_store_is_touched(gsop: Gsop, root: Path, reference: str) -> None:
    assert gsop("remove", reference, "--yes").refused("names no version")
    assert stored(root) == ["tiny/1", "tiny/2"]

"""Which store is read and which is written where none is named."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gsop.__main__ import main
from gsop.model.official import to_official
from gsop.settings import SHIPPED_STORE, Settings
from gsop.store.catalog import list_versions
from tests.commands.models.conftest import checkpoint_of, lively
from tests.stores import publish_tiny
from tests.support import ROOT, TINY

OWN = Path("model_store")


@pytest.fixture(autouse=True)
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package's store with ``tiny/1``, and an empty folder to work in."""
    store = tmp_path / "package" / "model_store"
    publish_tiny(store)
    monkeypatch.setattr("gsop.settings.SHIPPED_STORE", store)
    monkeypatch.delenv("GSOP_MODEL_STORE", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return store


def stored(root: Path) -> list[str]:
    return [version.reference for version in list_versions(root)]


def init() -> list[str]:
    small = ["--depth", "18", "--stem", "cifar", "--base-width", "4", "--reduced-dim", "4"]
    return ["init", *small, "--classes", "3"]


def import_checkpoint() -> list[str]:
    torch.save(checkpoint_of(to_official(lively(TINY))), "theirs.pth.tar")
    return ["import", "theirs.pth.tar"]


def test_the_store_of_the_checkout_is_the_one_that_ships() -> None:
    assert SHIPPED_STORE.is_symlink()
    assert SHIPPED_STORE.resolve() == ROOT / "model_store"


def test_without_a_store_here_the_shipped_one_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list"]) == 0
    assert "tiny" in capsys.readouterr().out
    assert not OWN.exists()


def test_a_store_here_comes_first(shipped: Path) -> None:
    assert Settings.load().model_store == shipped
    OWN.touch()
    assert Settings.load().model_store == shipped, "a file is no store"
    OWN.unlink()
    publish_tiny(OWN, name="mine")
    assert Settings.load().model_store == OWN


def test_a_store_that_is_named_is_not_made_up_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GSOP_MODEL_STORE", "model_store")
    assert main(["models", "list"]) == 1
    assert "the model store model_store is no folder" in capsys.readouterr().err


@pytest.mark.parametrize("command", [init, import_checkpoint])
def test_what_is_published_goes_to_a_store_here(
    command: Callable[[], list[str]], shipped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", *command(), "--name", "tiny"]) == 0
    assert "published tiny/1 in model_store/tiny/1" in capsys.readouterr().out
    assert main(["models", *command(), "--name", "tiny"]) == 0
    assert (stored(OWN), stored(shipped)) == (["tiny/1", "tiny/2"], ["tiny/1"])


def test_what_ships_is_not_removed(
    shipped: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    for arguments in (["tiny/1", "--yes"], ["tiny/1"]):
        assert main(["models", "remove", *arguments]) == 1
        captured = capsys.readouterr()
        assert "tiny/1 ships with the package and stays: name a store" in captured.err
        assert not captured.out, "nobody is asked"
    assert stored(shipped) == ["tiny/1"]

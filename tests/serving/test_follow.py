"""Following a file: what did not work is tried again, and no oftener than makes sense."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gsop.errors import Conflict
from gsop.serving import follow
from gsop.serving.desired import Desired, DesiredFile
from gsop.serving.follow import Follower, reconcile
from gsop.serving.versions import Versions

TEXT = '{"models": {"a": {"stable": "1", "canary": "2", "percent": 5, "loaded": ["3"]}}}'


class FakeVersions:
    """Remembers what is asked of it; the first ``failing`` loads of version 2 are refused."""

    def __init__(self, failing: int = 0) -> None:
        self.asked: list[str] = []
        self._failing = failing
        self.shares = SimpleNamespace(set=self._set)
        self.book = SimpleNamespace(all_shares={}, manifests={("a", "9"): None})

    def load(self, name: str, version: str, *, who: str) -> None:
        self.asked.append(f"load {name}/{version}")
        if version == "2" and self._failing:
            self._failing -= 1
            raise Conflict("another version is being loaded")

    def unload(self, name: str, version: str, *, who: str, force: bool) -> None:
        self.asked.append(f"unload {name}/{version}")

    def _set(self, name: str, traffic: object, *, who: str) -> None:
        self.asked.append(f"share {name}: {traffic}")


def as_versions(fake: FakeVersions) -> Versions:
    return cast("Versions", fake)


def looks(count: int) -> Any:
    """So many looks, then the service ends."""
    left: Iterator[bool] = iter([*[False] * count, True])
    return lambda _: next(left)


def test_what_is_wanted_is_loaded_then_shared_and_the_rest_goes_at_last() -> None:
    fake = FakeVersions()
    assert reconcile(as_versions(fake), Desired.parse(TEXT), "me") == []
    assert fake.asked == [
        *("load a/1", "load a/2", "load a/3"),
        "share a: 1 stable, 2 canary with 5 %",
        "unload a/9",
    ]


def test_a_fault_leaves_the_rest_as_it_is_wanted() -> None:
    fake = FakeVersions(failing=1)
    (fault,) = reconcile(as_versions(fake), Desired.parse(TEXT), "me")
    assert "another version" in fault
    assert fake.asked[-1] == "unload a/9"


@pytest.mark.parametrize(("failing", "tries"), [(0, 1), (2, 3)])
def test_what_did_not_work_is_tried_again_until_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, tries: int
) -> None:
    monkeypatch.setattr(follow, "RETRY_SECONDS", 0.0)
    (path := tmp_path / "state.json").write_text(TEXT)
    fake = FakeVersions(failing)
    Follower(as_versions(fake), DesiredFile(path), looks(8), is_done=True).follow()
    assert fake.asked.count("load a/2") == tries


def test_it_is_not_tried_again_at_once(tmp_path: Path) -> None:
    (path := tmp_path / "state.json").write_text(TEXT)
    fake = FakeVersions(failing=8)
    Follower(as_versions(fake), DesiredFile(path), looks(8), is_done=True).follow()
    assert fake.asked.count("load a/2") == 1


def test_what_failed_at_the_start_is_tried_again_without_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "RETRY_SECONDS", 0.0)
    (path := tmp_path / "state.json").write_text(TEXT)
    fake, file = FakeVersions(), DesiredFile(path)
    file.read()
    Follower(as_versions(fake), file, looks(3), is_done=True).follow()
    assert fake.asked == []
    Follower(as_versions(fake), file, looks(3), is_done=False).follow()
    assert fake.asked.count("load a/1") == 1

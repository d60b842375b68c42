"""Children that die or cannot be started."""

import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from gsop.serving import supervisor
from gsop.serving.supervisor import Child


def ended(status: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", f"raise SystemExit({status})"], stdin=subprocess.PIPE
    )


def test_a_child_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF_SECONDS", (0.0,))
    tries: list[int] = []
    statuses: list[int] = []
    died = threading.Event()

    def spawn() -> subprocess.Popen[bytes]:
        tries.append(1)
        if len(tries) < 3:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return ended(7)

    def on_death(status: int) -> bool:
        statuses.append(status)
        child.retire()
        died.set()
        return False

    child = Child("child", spawn, on_death)
    child.start()
    assert died.wait(30)
    assert child.wait(30)
    assert (len(tries), statuses) == (3, [7])


@pytest.mark.parametrize(("was_well", "pauses"), [(True, [0, 0, 0]), (False, [1, 2, 2])])
def test_only_what_was_well_is_started_again_at_once(
    monkeypatch: pytest.MonkeyPatch, was_well: bool, pauses: list[int]
) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF_SECONDS", (0, 1, 2))
    waited: list[float] = []
    child = Child("child", lambda: ended(1), lambda _: was_well)

    def wait(seconds: float | None = None) -> bool:
        waited.append(seconds or 0)
        if len(waited) == len(pauses):
            child.retire()
        return True

    monkeypatch.setattr(child._retired, "wait", wait)
    watch: Callable[[], None] = child._watch
    watch()
    assert waited == pauses

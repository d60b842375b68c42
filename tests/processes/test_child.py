"""Children that die or cannot be started."""

import threading
from collections.abc import Callable, Sequence
from typing import cast

import pytest

from gsop.processes import child as module
from gsop.processes.child import Child
from gsop.processes.nursery import Birth, Ending, Forked, Nursery


class Ended:
    """A process that has ended."""

    def __init__(self, ending: Ending) -> None:
        self._ending = ending

    def wait(self, on_orphaned: Callable[[], None]) -> Ending:
        return self._ending


class Scripted:
    """A nursery whose children are as the test has it: how they end, or why there are none."""

    def __init__(self, script: Sequence[Ending | OSError]) -> None:
        self._script = list(script)
        self.births = 0

    def fork(self, birth: Birth) -> Forked:
        self.births += 1
        found = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(found, OSError):
            raise found
        return cast("Forked", Ended(found))


def made(nursery: Scripted, on_death: Callable[[Ending], bool]) -> Child:
    birth = Birth("child", "nowhere:main")
    return Child("child", cast("Nursery", nursery), lambda: birth, on_death)


def test_a_child_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_SECONDS", (0.0,))
    full = BlockingIOError(11, "Resource temporarily unavailable")
    nursery, endings, died = Scripted([full, full, Ending(7)]), [], threading.Event()

    def on_death(ending: Ending) -> bool:
        endings.append(ending)
        child.retire()
        died.set()
        return False

    child = made(nursery, on_death)
    child.start()
    assert died.wait(30)
    assert child.wait(30)
    assert (nursery.births, endings) == (3, [Ending(7)])


@pytest.mark.parametrize(("was_well", "pauses"), [(True, [0, 0, 0]), (False, [1, 2, 2])])
def test_only_what_was_well_is_started_again_at_once(
    monkeypatch: pytest.MonkeyPatch, was_well: bool, pauses: list[int]
) -> None:
    monkeypatch.setattr(module, "BACKOFF_SECONDS", (0, 1, 2))
    waited: list[float] = []
    child = made(Scripted([Ending(1)]), lambda _: was_well)

    def wait(seconds: float | None = None) -> bool:
        waited.append(seconds or 0)
        if len(waited) == len(pauses):
            child.retire()
        return True

    monkeypatch.setattr(child._retired, "wait", wait)
    watch: Callable[[], None] = child._watch
    watch()
    assert waited == pauses


@pytest.mark.parametrize(
    ("status", "text"), [(0, "exit status 0"), (3, "exit status 3"), (-9, "killed by SIGKILL")]
)
def test_an_end_is_told_in_words(status: int, text: str) -> None:
    assert str(Ending(status)) == text

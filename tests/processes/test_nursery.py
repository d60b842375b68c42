"""How children are born and end, with real processes."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from gsop.processes.forks import EXIT_SETUP
from gsop.processes.import_path import import_path
from gsop.processes.nursery import Birth, Ending, Forked, Nursery
from gsop.processes.orphans import Orphanage
from tests.support import START_SECONDS, state_of

CHILDREN = "tests.processes.children"


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    made = Nursery([CHILDREN], os.environ | {"MARK": "mine"}, Orphanage(adopt=False))
    yield made
    made.close()


def orphaned() -> None:
    """Nothing is to be done about it."""


def waited(process: Forked) -> Ending:
    return process.wait(orphaned)


def told(nursery: Nursery) -> tuple[Forked, dict[str, object]]:
    ours, theirs = os.pipe()
    process = nursery.fork(Birth("gsop-someone", f"{CHILDREN}:tell", ["hello"], [theirs]))
    os.close(theirs)
    with os.fdopen(ours) as report:
        return process, json.loads(report.read())


def test_a_child_is_as_it_was_asked_for(nursery: Nursery) -> None:
    process, facts = told(nursery)
    assert (facts["name"], facts["says"]) == ("gsop-someone", "hello")
    assert dict(facts["environment"])["MARK"] == "mine"  # type: ignore[call-overload]  # of JSON
    process.end_lifeline()
    assert waited(process) == Ending(0)


def test_a_child_imports_what_its_parent_imported(nursery: Nursery) -> None:
    process, facts = told(nursery)
    process.end_lifeline()
    assert waited(process) == Ending(0)
    mine = list(dict.fromkeys(import_path()))  # Python itself looks nowhere twice
    assert cast("list[str]", facts["path"])[: len(mine)] == mine


def test_a_child_has_no_file_of_its_siblings(nursery: Nursery) -> None:
    first, facts = told(nursery)
    alone = cast("list[int]", facts["files"])
    second, others = told(nursery)
    beside = cast("list[int]", others["files"])
    # The standard streams, the lifeline, the report, and the folder that it looks them up in.
    assert len(alone) == len(beside) == 6
    assert {0, 1, 2} <= set(alone)
    for process in (first, second):
        process.end_lifeline()
        assert waited(process) == Ending(0)


def test_a_mistake_of_the_set_up_comes_back_in_words(nursery: Nursery) -> None:
    process = nursery.fork(Birth("child", f"{CHILDREN}:refuse"))
    assert waited(process) == Ending(EXIT_SETUP, "GSOP_THING is wrong: set it right")


@pytest.mark.parametrize("status", [0, 1, 7])
def test_its_exit_status_is_its_own(nursery: Nursery, status: int) -> None:
    assert waited(nursery.fork(Birth("child", f"{CHILDREN}:leave_with", [status]))) == Ending(
        status
    )


def test_a_defect_is_no_mistake_of_the_set_up(nursery: Nursery) -> None:
    assert waited(nursery.fork(Birth("child", f"{CHILDREN}:fail"))) == Ending(1)


def test_a_signal_that_kills_it_is_told(nursery: Nursery) -> None:
    process = nursery.fork(Birth("child", f"{CHILDREN}:stand_still"))
    process.send_signal(signal.SIGTERM)  # perhaps before it is born: then as soon as it is
    assert waited(process) == Ending(-signal.SIGTERM)


def test_a_child_leaves_with_its_supervisor(nursery: Nursery) -> None:
    process = nursery.fork(Birth("child", f"{CHILDREN}:stand_still"))
    threading.Timer(0.2, process.end_lifeline).start()
    assert waited(process) == Ending(1)


def test_a_child_may_have_children(nursery: Nursery) -> None:
    process = nursery.fork(Birth("child", f"{CHILDREN}:have_a_child", line=True))
    process.end_lifeline()
    assert waited(process) == Ending(0)


def test_a_killed_nursery_takes_its_children_along_where_nobody_adopts_them(
    nursery: Nursery,
) -> None:
    first, facts = told(nursery)
    os.kill(mother_of(facts), signal.SIGKILL)
    assert waited(first) == Ending(-signal.SIGKILL)
    second, others = told(nursery)  # by a nursery that was started anew
    assert mother_of(others) != mother_of(facts)
    second.end_lifeline()
    assert waited(second) == Ending(0)


def mother_of(facts: dict[str, object]) -> int:
    pid, status = facts["pid"], Path(f"/proc/{facts['pid']}/stat")
    if not status.exists():
        return int(str(facts["mother"]))
    mother = int(status.read_text().rpartition(")")[2].split()[1])
    facts["mother"] = mother
    assert pid != mother
    return mother


ADOPTING = f"""
import os, signal, sys, threading
from gsop.processes.nursery import Birth, Nursery
from gsop.processes.orphans import Orphanage
from {__name__} import mother_of, told
from tests.support import descendants

orphanage = Orphanage(adopt=True)
nursery = Nursery(["{CHILDREN}"], os.environ, orphanage)
process, facts = told(nursery)
os.kill(mother_of(facts), signal.SIGKILL)
orphaned = threading.Event()
endings = []
thread = threading.Thread(target=lambda: endings.append(process.wait(orphaned.set)))
thread.start()
assert orphaned.wait(10), "its nursery is gone, and it is not"
assert not endings
nursery.fork_without_lifeline(Birth("orphan", "{CHILDREN}:nothing"))  # of the next nursery
process.end_lifeline()
thread.join(10)
assert [ending.status for ending in endings] == [0], "its end is known all the same"
nursery.close()
orphanage.bury()
assert descendants(os.getpid()) == {{}}, descendants(os.getpid())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="subreapers are Linux's")
def test_children_outlive_their_nursery_where_they_are_adopted() -> None:
    """In a process of its own, for it becomes the subreaper of all its children for good."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", ADOPTING],
        env=environment,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_nothing_is_left_when_it_closes(nursery: Nursery) -> None:
    process, facts = told(nursery)
    mother = mother_of(facts)
    process.end_lifeline()
    waited(process)
    assert state_of(mother) is not None
    nursery.close()
    assert state_of(mother) is None

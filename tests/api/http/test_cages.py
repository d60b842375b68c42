"""A running service in its cages; and what it says where a kernel or a container gives none."""

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gsop.processes.cage import missing
from tests.support import Server, random_pngs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"this system does not give {missing()}"),
]

IMAGE = random_pngs(1)[0]

WITHOUT = """
import os, sys
from gsop.processes import seccomp
from gsop.processes.seccomp import ALLOW, Rule, refuse
from gsop.processes.syscalls import prctl
prctl(38, 1)
seccomp.install([Rule(sys.argv[1], refuse(int(sys.argv[2])))], ALLOW)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Lacking(Server):
    """A server below a filter that refuses it one call, as a container does."""

    def __init__(self, store: Path, call: str, code: int, **settings: object) -> None:
        super().__init__(store, **settings)
        self.command = [sys.executable, "-c", WITHOUT, call, str(code), *self.command]


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


@pytest.fixture(scope="module")
def caged(tiny_store: Path) -> Iterator[Server]:
    with Server(tiny_store, models="tiny", cage="required") as server:
        yield server.wait_ready()


def test_every_process_that_strangers_reach_is_in_its_cage(caged: Server) -> None:
    assert caged.predict(IMAGE)["predictions"]
    seen = set()
    for pid, name in caged.descendants().items():
        kind = name.split("-")[1]
        seen.add(kind)
        told = status(pid)
        reached = kind != "nursery"  # which starts processes, and reads nothing of strangers
        assert (told["Seccomp"], told["NoNewPrivs"]) == (("2", "1") if reached else ("0", "0"))
        if kind == "decoder":
            assert int(told["CapEff"], 16) == 0
            if os.getuid() != 0:
                continue
            files = {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}
            assert {file.partition(":")[0] for file in files} == {"/dev/null", "socket"}
    assert seen == {"nursery", "front", "decoder", "engine"}


@pytest.fixture(scope="module")
def lacking(tiny_store: Path) -> Iterator[Server]:
    with Lacking(tiny_store, "seccomp", errno.EPERM, models="tiny", cage="auto") as server:
        yield server.wait_ready()


def test_what_is_missing_is_said_once_and_it_serves(lacking: Server) -> None:
    assert lacking.predict(IMAGE)["predictions"]
    warnings = [line for line in lacking.log if '"level": "warning"' in line]
    assert len(warnings) == 1
    assert (
        "the cages of processes are not whole: no seccomp (a container forbids it)" in warnings[0]
    )
    decoders = [p for p, name in lacking.descendants().items() if name == "gsop-decoder"]
    assert decoders
    assert all(int(status(pid)["CapEff"], 16) == 0 for pid in decoders)  # the rest of it is there


@pytest.mark.parametrize(
    ("call", "code", "reason"),
    [
        ("seccomp", errno.EPERM, "seccomp (a container forbids it)"),
        ("landlock_create_ruleset", errno.ENOSYS, "Landlock (the kernel does not have it"),
        ("landlock_create_ruleset", errno.EOPNOTSUPP, "Landlock (it is switched off"),
    ],
)
def test_it_refuses_to_start_without_a_cage_that_is_required(
    tiny_store: Path, call: str, code: int, reason: str
) -> None:
    server = Lacking(tiny_store, call, code, models="tiny", cage="required")
    exit_status, log = server.run_to_end()
    assert exit_status == 1
    assert f"GSOP_CAGE=required, and this system does not give {reason}" in log[-1]
    assert "GSOP_CAGE=auto" in log[-1]


def test_without_a_cage_there_is_none(tiny_store: Path) -> None:
    with Server(tiny_store, models="tiny", cage="off") as server:
        assert server.wait_ready().predict(IMAGE)["predictions"]
        told = [status(pid) for pid in server.descendants()]
        assert {(lines["Seccomp"], lines["NoNewPrivs"]) for lines in told} == {("0", "0")}

"""What fronts and engines may still do in their cages; and what is said where there are none."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gsop.errors import ConfigError, SetupError
from gsop.processes import cage, landlock, seccomp
from gsop.processes.cage import check, missing
from tests.support import ROOT, START_SECONDS

WHOLE = pytest.mark.skipif(bool(missing()), reason=f"this system does not give {missing()}")

FRONT = """
import ctypes, errno, os, socket, sys, threading
from pathlib import Path
from gsop.processes.cage import cage_front

store, other, port = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
libc = ctypes.CDLL(None, use_errno=True)

def trace():
    if libc.ptrace(0x4206, os.getppid(), None, None) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")

TRIES = {
    "read the store": lambda: (store / "manifest.json").read_text(),
    "list the store": lambda: list(store.iterdir()),
    "read what the store links to": lambda: (store / "link").read_text(),
    "import": lambda: __import__("wave"),
    "write to the null device": lambda: Path("/dev/null").write_text("x"),
    "write into the store": lambda: (store / "planted").write_text("x"),
    "remove from the store": lambda: (store / "manifest.json").unlink(),
    "read elsewhere": lambda: other.read_text(),
    "write elsewhere": lambda: other.write_text("x"),
    "connect": lambda: socket.create_connection(("127.0.0.1", port), 5).close(),
    "listen": lambda: socket.create_server(("127.0.0.1", 0)).close(),
    "start a program": lambda: os.execv("/bin/true", ["true"]),
    "fork": lambda: os.fork() or os._exit(0),
    "trace its parent": trace,
    "signal its parent": lambda: os.kill(os.getppid(), 0),
}

def said(name, attempt):
    if name == "start a program" and sys.argv[4] == "off":
        return "done"  # it would be this one's end
    try:
        attempt()
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]

cage_front([store, (store / "link").resolve()], sys.argv[4])
answers = []
def work():
    for name, attempt in TRIES.items():
        answers.append(f"{name}: {said(name, attempt)}")
thread = threading.Thread(target=work)
thread.start()
thread.join()
print("\\n".join(answers))
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def front(tmp_path: Path, listener: socket.socket, mode: str) -> dict[str, str]:
    store, linked, other = tmp_path / "store", tmp_path / "linked", tmp_path / "other"
    store.mkdir()
    (store / "manifest.json").write_text("{}")
    linked.write_text("elsewhere")
    (store / "link").symlink_to(linked)
    other.write_text("a stranger's")
    arguments = [str(store), str(other), str(listener.getsockname()[1]), mode]
    done = subprocess.run(
        [sys.executable, "-c", FRONT, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(line.split(": ") for line in done.stdout.splitlines())


@WHOLE
def test_a_front_reads_what_it_serves_and_writes_nothing(
    tmp_path: Path, listener: socket.socket
) -> None:
    assert front(tmp_path, listener, "auto") == {
        "read the store": "done",
        "list the store": "done",
        "read what the store links to": "done",
        "import": "done",
        "write to the null device": "done",
        "write into the store": "EACCES",
        "remove from the store": "EACCES",
        "read elsewhere": "EACCES",
        "write elsewhere": "EACCES",
        "connect": "EACCES",
        "listen": "EACCES",
        "start a program": "EPERM",
        "fork": "EPERM",
        "trace its parent": "EPERM",
        "signal its parent": "done",
    }


COLLECTED = """
import errno, socket, sys
from gsop.processes.cage import cage_front

allowed, other = map(int, sys.argv[1:])
cage_front([], "auto", connects=[allowed])
for port in (allowed, other):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
        print("done")
    except OSError as error:
        print(errno.errorcode[error.errno])
try:
    socket.create_server(("127.0.0.1", 0))
except OSError as error:
    print(errno.errorcode[error.errno])
"""


@WHOLE
def test_a_front_reaches_the_port_of_a_collector_and_no_other(listener: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        ports = [str(one.getsockname()[1]) for one in (listener, other)]
        done = subprocess.run(
            [sys.executable, "-c", COLLECTED, *ports],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stdout.split() == ["done", "EACCES", "EACCES"], done.stderr


def test_without_its_cage_it_does_all_of_that(tmp_path: Path, listener: socket.socket) -> None:
    """Or the test above would show nothing."""
    answers = front(tmp_path, listener, "off")
    assert set(answers.values()) == {"done"}


ENGINE = """
import errno, subprocess, sys, threading
from pathlib import Path
from gsop.processes.cage import cage_engine

def said(attempt):
    try:
        attempt()
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]

begin, answers = threading.Event(), []
def work():
    begin.wait()
    answers.append(said(lambda: subprocess.run(["/bin/true"])))
    answers.append(said(lambda: Path(sys.argv[1]).write_text("x")))
    answers.append(said(lambda: threading.Thread(target=int).start()))
thread = threading.Thread(target=work)  # such as a device's driver has
thread.start()
cage_engine(sys.argv[2])
begin.set()
thread.join()
print(*answers)
"""


@pytest.mark.parametrize(
    ("mode", "answers"), [("auto", "EPERM done done"), ("off", "done done done")]
)
@WHOLE
def test_an_engine_starts_no_program_in_any_thread(tmp_path: Path, mode: str, answers: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENGINE, str(tmp_path / "file"), mode],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert done.stdout.strip() == answers, done.stderr


HIDDEN = """
import os, sys
from gsop.processes.cage import hide
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
import ctypes
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # to give up being root hides a process too
if sys.argv[1] == "hide":
    hide()
if os.fork() == 0:
    for what in ("environ", "mem", "maps", "fd"):
        path = f"/proc/{os.getppid()}/{what}"
        try:
            os.listdir(path) if what == "fd" else os.close(os.open(path, os.O_RDONLY))
            print(what, "read")
        except PermissionError:
            print(what, "refused")
    sys.stdout.flush()
    os._exit(0)
os.wait()
"""


@pytest.mark.skipif(os.getuid() != 0, reason="another user is needed")
@pytest.mark.parametrize(("way", "answer"), [("hide", "refused"), ("stay", "read")])
def test_who_hides_is_not_looked_into_by_its_own_user(way: str, answer: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN, way],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=True,
    )
    assert done.stdout.split() == [word for what in FILES for word in (what, answer)]


FILES = ("environ", "mem", "maps", "fd")


# ── where there are none ─────────────────────────────────────────────────────────────────────────


def fail_with(code: int) -> object:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@WHOLE
def test_nothing_is_said_where_nothing_is_missing() -> None:
    for mode in ("auto", "required", "off"):
        assert check(mode) is None


def test_to_look_leaves_this_process_as_it_was() -> None:
    missing()
    status = Path("/proc/self/status").read_text()
    assert "NoNewPrivs:\t0" in status
    assert "Seccomp:\t0" in status


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSYS, "the kernel does not have it, or a container hides it"),
        (errno.EOPNOTSUPP, "it is switched off"),
        (errno.EPERM, "a container forbids it"),
        (errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_what_is_missing_is_said_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, code: int, reason: str
) -> None:
    monkeypatch.setattr(landlock, "restrict", fail_with(code))
    said = check("auto")
    assert said is not None
    assert f"no Landlock ({reason}" in said
    assert "seccomp" not in said
    with pytest.raises(ConfigError, match=r"GSOP_CAGE=required.* Landlock .*GSOP_CAGE=auto"):
        check("required")
    assert check("off") is None


def test_another_machine_or_system_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "machine_name", lambda: "riscv64")
    said = check("auto")
    assert said is not None
    assert "no seccomp" in said


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM])
def test_a_means_that_is_not_given_is_done_without(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    used: list[str] = []
    monkeypatch.setattr(cage, "_give_up_privileges", lambda: used.append("privileges"))
    monkeypatch.setattr(landlock, "restrict", fail_with(code))
    monkeypatch.setattr(seccomp, "install", lambda *_, **__: used.append("seccomp"))
    cage.cage_front([], "auto")
    assert used == ["privileges", "seccomp"]
    with pytest.raises(SetupError, match="GSOP_CAGE=required"):
        cage.cage_front([], "required")


def test_another_failure_is_none_to_be_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is not caged although it could be must not serve."""
    monkeypatch.setattr(cage, "_give_up_privileges", lambda: None)
    monkeypatch.setattr(landlock, "restrict", fail_with(errno.EMFILE))
    with pytest.raises(OSError, match="Too many open files"):
        cage.cage_front([], "auto")

"""Fixtures: stores and servers that several tests share; and which tests are quick."""

import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.escapes import Outside
from tests.support import ROOT, RUN, Server, orphans

QUICK = (
    *("arena", "engine", "images", "test_keys.py", "test_logs.py", "test_settings.py"),
    *("gates/test_answers.py", "gates/test_memory.py", "gates/test_statistics.py"),
    *("gates/test_drift.py", "gates/test_reference.py", "gates/populations.py"),
    *("backends/test_registry.py", "processes/test_child.py", "serving/test_classify.py"),
    *("serving/test_traffic.py", "serving/test_judge.py", "serving/test_desired.py"),
    "serving/test_follow.py",
    *("api/oip/test_body.py", "api/oip/test_outputs.py"),
    *("api/http/test_bodies.py", "api/http/test_negotiation.py", "api/http/test_watch.py"),
)
"""Tests of what is pure: they import no torch, and take seconds together (``make quick``)."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="only tests of what is pure")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Under ``--quick``, look at no other file: others import torch."""
    if not config.getoption("quick"):
        return None
    place = collection_path.relative_to(ROOT / "tests")
    chosen = any(place.is_relative_to(q) or Path(q).is_relative_to(place) for q in QUICK)
    return None if chosen else True


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hold quick tests to what they are."""
    if session.config.getoption("quick") and "torch" in sys.modules:
        print("\ntorch was imported: one of the quick tests is none", file=sys.stderr)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Collect no garbage while a failure is told.

    A task that is collected with its error has it logged, so source is parsed. If pytest is parsing
    some itself just then, Python 3.11 raises SystemError, and the whole run ends (CPython's
    gh-106905).
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


class Teller:
    """Says at once what failed and why: a run that is cut short has then said so."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print a failure's last lines when it happens; the whole of it comes at the end."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            last = report.longreprtext.splitlines()[-12:]
            title = f"{report.nodeid}, {report.when} ({_free_megabytes()} MB free):"
            terminal.write_line("\n".join(["", title, *last]))


def pytest_configure(config: pytest.Config) -> None:
    """Tell failures at once; mark what processes of this run are known by."""
    config.pluginmanager.register(Teller(config))
    # Workers of pytest-xdist ignore it, and so would all that their tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    name, _, value = RUN.partition("=")
    os.environ[name] = value


BURIAL_SECONDS = 30.0
"""How long what a killed service leaves may take to see that it is gone, on a busy machine."""


@pytest.fixture(scope="module", autouse=True)
def _no_process_is_left() -> Iterator[None]:
    """A service whose supervisor is gone goes too, whole, before the next tests begin."""
    yield
    deadline = time.monotonic() + BURIAL_SECONDS
    while (left := orphans()) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"processes that nobody stopped: {left}"


def _free_megabytes() -> int:
    """Of memory: what the kernel says that new processes may have."""
    words = Path("/proc/meminfo").read_text().split()
    return int(words[words.index("MemAvailable:") + 1]) // 1024


@pytest.fixture(scope="session")
def whole_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """:func:`tiny_store` for all modules."""
    from tests.stores import publish_tiny  # with torch, which quick tests do without

    store = tmp_path_factory.mktemp("store")
    publish_tiny(store)
    return store


@pytest.fixture(scope="module")
def tiny_store(whole_store: Path) -> Iterator[Path]:
    """A store with a small random model, ``tiny/1``, which tests leave as it was.

    Another version in it would be what all tests behind them serve.
    """
    before = sorted(whole_store.rglob("*"))
    yield whole_store
    assert sorted(whole_store.rglob("*")) == before, "who publishes needs a store of its own"


@pytest.fixture(scope="session")
def digits_server() -> Iterator[Server]:
    """The shipped store, served; for tests that leave the server as it was."""
    with Server(ROOT / "model_store") as server:
        yield server.wait_ready()


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    """What there is to be got at, all of it open to this user."""
    keys, store, address = tmp_path / "keys.txt", tmp_path / "store", str(tmp_path / "socket")
    keys.write_text("the secret of an operator")
    (store / "digits").mkdir(parents=True)
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        for listener, name in ((unix, address), (abstract, f"\0{address}")):
            listener.bind(name)
            listener.listen()
        yield Outside(os.getpid(), str(keys), str(store), tcp.getsockname()[1], address)

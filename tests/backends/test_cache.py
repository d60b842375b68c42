"""What is kept comes back whole, or not at all; and keeping never fails a start."""

import logging
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from gsop.backends import cache
from gsop.backends.cache import Cache, key_of

KEY, OTHER = key_of({"weights": "a"}), key_of({"weights": "b"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "here"


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def test_what_is_kept_comes_back(folder: Path) -> None:
    assert Cache(folder).get(KEY) is None
    Cache(folder).put(KEY, b"compiled")
    assert Cache(folder).get(KEY) == b"compiled"
    assert Cache(folder).get(OTHER) is None
    Cache(folder).put(KEY, b"again")
    assert Cache(folder).get(KEY) == b"again"
    assert only_file(folder)


def test_every_fact_counts() -> None:
    facts = {"weights": "a", "options": {"threads": 2}}
    assert key_of(facts) == key_of(dict(reversed(facts.items())))
    assert key_of(facts) != key_of(facts | {"options": {"threads": 1}})


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: data[:-1],
        lambda data: data[:10],
        lambda data: b"",
        lambda data: data + b"x",
        lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
        lambda data: bytes([data[0] ^ 1]) + data[1:],
    ],
    ids=["cut", "cut to nearly nothing", "empty", "longer", "a bit of content", "a bit of hash"],
)
def test_a_damaged_file_is_not_taken(folder: Path, harm: Callable[[bytes], bytes]) -> None:
    Cache(folder).put(KEY, b"compiled network")
    file = only_file(folder)
    file.write_bytes(harm(file.read_bytes()))
    assert Cache(folder).get(KEY) is None
    Cache(folder).put(KEY, b"compiled network")
    assert Cache(folder).get(KEY) == b"compiled network"


def test_a_file_under_another_name_is_not_taken(folder: Path) -> None:
    Cache(folder).put(KEY, b"of another network")
    shutil.copy(only_file(folder), folder / f"{OTHER}.cache")
    assert Cache(folder).get(OTHER) is None
    assert Cache(folder).get(KEY) == b"of another network"


def test_the_folder_is_the_users_own(folder: Path) -> None:
    mask = os.umask(0)
    try:
        Cache(folder).put(KEY, b"mine")
    finally:
        os.umask(mask)
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_what_others_could_write_is_neither_read_nor_written(
    folder: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    Cache(folder).put(KEY, b"mine")
    folder.chmod(mode)
    assert Cache(folder).get(KEY) is None
    Cache(folder).put(OTHER, b"mine")
    assert only_file(folder).name.startswith(KEY)
    assert caplog.text.count("others than this user can write") == 2


def test_what_somebody_else_owns_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Cache(folder).put(KEY, b"theirs")
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    assert Cache(folder).get(KEY) is None


def test_a_folder_that_cannot_be_made_costs_a_log_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    kept = Cache(tmp_path / "file" / "cache")
    kept.put(KEY, b"nowhere to go")
    assert kept.get(KEY) is None
    assert "GSOP_CACHE" in caplog.text
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_a_full_disk_costs_a_log_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Cache(folder).put(OTHER, b"before")
    open_path = Path.open

    def open_full(path: Path, mode: str) -> IO[bytes]:
        """The file is made, and what is written goes to a disk that is always full."""
        open_path(path, mode).close()
        return open_path(Path("/dev/full"), "wb")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", open_full)
        Cache(folder).put(KEY, b"compiled")
    assert "No space left on device" in caplog.text
    assert Cache(folder).get(KEY) is None
    assert only_file(folder).name.startswith(OTHER), "a half file was left"


def _write_for_ever(folder: Path) -> None:
    while True:
        Cache(folder).put(KEY, os.urandom(1) * 2**22)


def test_a_killed_writer_leaves_nothing_that_is_taken(folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    for pause in (0.0, 0.003, 0.011):
        writer = context.Process(target=_write_for_ever, args=(folder,))
        writer.start()
        while not (folder.exists() and any(folder.iterdir())):
            time.sleep(0.001)  # until it writes; then it is killed at some moment
        time.sleep(pause)
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        found = Cache(folder).get(KEY)
        assert found is None or found == bytes(found[:1]) * 2**22


def test_several_write_and_read_at_once(folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_for_ever, args=(folder,)) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        seen = set[bytes]()
        while len(seen) < 5:
            found = Cache(folder).get(KEY)
            if found is not None:
                assert found == bytes(found[:1]) * 2**22
                seen.add(bytes(found[:1]))
    finally:
        for writer in writers:
            writer.kill()
            writer.join()


def test_it_is_bounded_and_keeps_what_was_used_last(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "MOST_BYTES", 3 * (100 + 32))
    keys = [key_of({"number": number}) for number in range(4)]
    kept = Cache(folder)
    for age, key in zip((30, 20, 10), keys, strict=False):
        kept.put(key, bytes(100))
        past = time.time() - age
        os.utime(folder / f"{key}.cache", (past, past))
    assert kept.get(keys[0]) is not None  # the oldest, but used again
    kept.put(keys[3], bytes(100))
    assert [kept.get(key) is not None for key in keys] == [True, False, True, True]


def test_what_a_dead_writer_left_is_removed_after_a_while(folder: Path) -> None:
    kept = Cache(folder)
    kept.put(KEY, b"whole")
    fresh, old = (folder / f".{KEY}.cache.{end}" for end in ("0000", "1111"))
    for half in (fresh, old):
        half.write_bytes(b"half")
    past = time.time() - 2 * cache.ABANDONED_SECONDS
    os.utime(old, (past, past))
    kept.put(OTHER, b"whole")
    assert fresh.exists()
    assert not old.exists()


def test_a_file_larger_than_the_bound_is_kept_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "MOST_BYTES", 10)
    Cache(folder).put(OTHER, b"small")
    Cache(folder).put(KEY, bytes(1000))
    assert only_file(folder).name.startswith(KEY)

"""The verified copy of a remote store: an ordinary store on disk, filled with what is asked for.

    <folder>/<name>/<version>/     whole versions, each as its index entry says, or none
    <folder>/.remote/              the index that was seen last, pieces of transfers, locks

Processes may share the folder. A version is fetched under a lock of its own, so that of several
who want it one fetches, and the others find it; a transfer that broke off is gone on with by
whoever comes next. What somebody holds is never removed: the hold is a lock, which ends with its
process.

Whatever is the matter with the store, the index that was seen last holds, and so does what was
fetched: an outage unloads nothing, and a service starts without the store.
"""

import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gsop.errors import StoreError, StoreUnreachable
from gsop.store.files import replace_file, sync_folder
from gsop.store.index import INDEX_FILE, Entry, Index, StoredFile
from gsop.store.manifest import MANIFEST_FILE, WEIGHTS_FILE, read_manifest
from gsop.store.remote import Absent, Changed, Remote

log = logging.getLogger("gsop.store")

PIECE = 8 << 20
"""Bytes that are asked for at a time."""

TRIES = 5
"""So often in a row may a piece not come."""

FIRST_PAUSE = 0.2
"""Seconds before a piece is asked for again; twice as long each time after that."""

FRESH_SECONDS = 1.0
"""For so long an index that was read is not read again."""

REFUSED_SECONDS = 600.0
"""For so long what was not what the index says is not fetched again."""

SPARE = 64 << 20
"""Bytes of the disk that are left free."""

Key = tuple[str, str]
"""A model's name and a version's."""


class Mirror:
    """A remote store's copy in a folder. Its methods may be called in any thread.

    Args:
        folder: of the copy; made if there is none.
        remote: the store.
        most_bytes: of all versions together; those that were not held for longest are removed for
            new ones. 0: as many as the disk holds.

    Raises:
        StoreError: if the folder cannot be written.
    """

    def __init__(self, folder: Path, remote: Remote, *, most_bytes: int = 0) -> None:
        self.remote = remote
        self._folder = folder
        self._hidden = folder / ".remote"
        self._most_bytes = most_bytes
        self._index: Index | None = None
        self._read_at = float("-inf")
        self._reading = threading.Lock()
        self._holding = threading.Lock()
        self._held: dict[Key, int] = {}
        self._refused: dict[Key, tuple[Entry, float, str]] = {}
        try:
            self._hidden.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{folder}, where models of {remote.where} are kept, cannot be written "
                f"({error.strerror}): name a folder that can be with GSOP_MODEL_STORE"
            ) from error
        name = hashlib.sha256(remote.where.encode()).hexdigest()[:16]
        self._index_file = self._hidden / f"{name}.{INDEX_FILE}"

    def index(self, seconds: float = FRESH_SECONDS) -> Index:
        """What the store holds, as was read in the last ``seconds``, or else is read now.

        Raises:
            StoreError: if the store has no index that can be used, and none was seen before.
        """
        with self._reading:
            if self._index is not None and time.monotonic() < self._read_at + seconds:
                return self._index
            try:
                data = self.remote.read_index()
                found = Index.parse(data, f"{self.remote.where}/{INDEX_FILE}")
            except StoreError as error:
                found = self._seen_last(error)
            else:
                if found != self._index:
                    with suppress(
                        OSError
                    ):  # a full disk: only the next start without a store lacks it
                        replace_file(self._index_file, data)
            self._index, self._read_at = found, time.monotonic()
            return found

    def _seen_last(self, error: StoreError) -> Index:
        found = self._index
        if found is None:
            try:
                data = self._index_file.read_bytes()
            except OSError:
                raise error from None
            pin = self.remote.pin
            if pin is not None and hashlib.sha256(data).hexdigest() != pin:
                raise error
            found = Index.parse(data, str(self._index_file))
        log.error("the models that are known are served on, but: %s", error)
        return found

    def fetch(self, name: str, version: str) -> Path:
        """Have a version in the folder, whole and as the index says; it is held from then on.

        Returns:
            Its folder.

        Raises:
            StoreUnreachable: if the store does not bring it.
            StoreError: if the store has none, or another one than its index says; or there is no
                room for it.
        """
        key, entry = (name, version), self.index().get(name, version, self.remote.where)
        folder = self._folder / name / version
        with self._locked(key):
            self._hold(key)
            try:
                if not _is_whole(folder, entry):
                    self._check_refused(key, entry)
                    self._make_room(entry)
                    self._bring(key, entry, folder)
            except BaseException:
                self.release(name, version)
                raise
        return folder

    def release(self, name: str, version: str) -> None:
        """A version is not used any more: it may be removed for another."""
        with self._holding:
            descriptor = self._held.pop((name, version), None)
        if descriptor is not None:
            os.close(descriptor)

    # ── one version ──────────────────────────────────────────────────────────────────────────────

    def _check_refused(self, key: Key, entry: Entry) -> None:
        refused = self._refused.get(key)
        if refused is None:
            return
        bad, until, reason = refused
        if bad == entry and time.monotonic() < until:
            raise StoreError(reason)
        del self._refused[key]

    def _bring(self, key: Key, entry: Entry, folder: Path) -> None:
        name, version = key
        reference = f"{name}/{version}"
        log.info("fetching %s from %s: %.1f MB", reference, self.remote.where, entry.size / 1e6)
        began = time.monotonic()
        parts: dict[str, Path] = {}
        try:
            for file, stored in entry.files.items():
                part = self._part(key, stored)
                self._transfer(f"{reference}/{file}", stored, part)
                parts[file] = part
            self._lay_out(parts, folder)
        except _Wrong as error:
            reason = (
                f"{error}: publish it under a new version; it is not tried again for "
                f"{REFUSED_SECONDS / 60:.0f} minutes"
            )
            self._refused[key] = (entry, time.monotonic() + REFUSED_SECONDS, reason)
            raise StoreError(reason) from None
        except OSError as error:
            raise StoreError(f"{folder} cannot be written: {error}") from error
        log.info("fetched %s in %.1f s", reference, time.monotonic() - began)

    def _transfer(self, path: str, stored: StoredFile, part: Path) -> None:
        """Bring the rest of a file; whatever is wrong with it, none of it stays."""
        for _ in range(2):  # what broke off may have been of another object
            goes_on = part.exists()
            self._bring_pieces(path, stored, part)
            if _digest(part) == stored.sha256:
                return
            part.unlink()
            if not goes_on:
                break
        raise _Wrong(
            f"{self.remote.where}/{path} is not what its index says ({stored.sha256[:12]}…)"
        )

    def _bring_pieces(self, path: str, stored: StoredFile, part: Path) -> None:
        etag, failed, changed = None, 0, 0
        with part.open("ab") as file:
            if file.tell() > stored.size:
                file.truncate(0)
            while (have := file.tell()) < stored.size:
                end = min(have + PIECE, stored.size)
                try:
                    data, etag = self.remote.read(path, have, end, etag)
                except Absent:
                    raise _Wrong(
                        f"{self.remote.where} has no {path}, which its index names"
                    ) from None
                except (Changed, StoreUnreachable) as error:
                    failed += 1
                    if isinstance(error, Changed):
                        changed += 1  # however far it came between
                        etag = None
                        file.truncate(0)
                        file.seek(0)
                    if TRIES in (failed, changed):
                        raise _as_error(error, f"{self.remote.where}/{path}") from None
                    time.sleep(FIRST_PAUSE * 2 ** (max(failed, changed) - 1))
                else:
                    failed = 0 if data else failed
                    file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def _lay_out(self, parts: dict[str, Path], folder: Path) -> None:
        """Have the version appear whole, in place of one that is damaged."""
        token = secrets.token_hex(4)
        whole = self._hidden / token / folder.parent.name / folder.name
        whole.mkdir(parents=True)
        try:
            for file, part in parts.items():
                part.rename(whole / file)
            self._check_manifest(whole)
            sync_folder(whole)
            folder.parent.mkdir(exist_ok=True)
            if folder.exists():
                folder.rename(self._hidden / token / "damaged")
            whole.rename(folder)
            sync_folder(folder.parent)
        finally:
            shutil.rmtree(self._hidden / token, ignore_errors=True)

    def _check_manifest(self, whole: Path) -> None:
        """The digests are right; that they are of one version is seen here."""
        try:
            manifest = read_manifest(whole)
        except StoreError as error:
            raise _Wrong(
                f"what was published to {self.remote.where} is no version: {error}"
            ) from None
        if manifest.sha256 != _digest(whole / WEIGHTS_FILE):
            raise _Wrong(
                f"{self.remote.where}: {manifest.name}/{manifest.version} is published with the "
                f"weights of another {MANIFEST_FILE}"
            )

    def _part(self, key: Key, stored: StoredFile) -> Path:
        return self._hidden / f"{'@'.join(key)}@{stored.sha256[:16]}.part"

    # ── locks, and room ──────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _locked(self, key: Key) -> Iterator[None]:
        """Alone among all processes with this version."""
        descriptor = self._opened(key, "lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _hold(self, key: Key) -> None:
        with self._holding:
            if key not in self._held:
                self._held[key] = self._opened(key, "held")
                fcntl.flock(self._held[key], fcntl.LOCK_SH)
            os.utime(self._held[key])

    def _opened(self, key: Key, kind: str) -> int:
        path = self._hidden / f"{'@'.join(key)}.{kind}"
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise StoreError(f"{path} cannot be written: {error}") from error

    def _make_room(self, entry: Entry) -> None:
        """Remove what nobody holds, the longest unused first, until the version fits."""
        versions = sorted(self._versions(), key=self._used)
        while self._lacks(entry.size):
            if not versions:
                raise StoreError(
                    f"there is no room for {entry.size / 1e6:.0f} MB in {self._folder}: give it a "
                    "larger disk or bound (GSOP_STORE_BYTES), or unload a version"
                )
            self._remove_unless_held(versions.pop(0))

    def _lacks(self, size: int) -> bool:
        taken = sum(file.stat().st_size for file in self._folder.rglob("*") if file.is_file())
        is_over = 0 < self._most_bytes < taken + size
        return is_over or shutil.disk_usage(self._folder).free < size + SPARE

    def _versions(self) -> list[Key]:
        return [
            (path.parent.name, path.name)
            for path in self._folder.glob("[!.]*/[!.]*")
            if path.is_dir()
        ]

    def _used(self, key: Key) -> float:
        try:
            return (self._hidden / f"{'@'.join(key)}.held").stat().st_mtime
        except OSError:
            return 0.0

    def _remove_unless_held(self, key: Key) -> None:
        lock, held = self._opened(key, "lock"), self._opened(key, "held")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        else:
            hidden = self._hidden / secrets.token_hex(4)
            (self._folder / key[0] / key[1]).rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)
            log.info("removed %s/%s from %s, to have room", *key, self._folder)
        finally:
            os.close(lock)
            os.close(held)


class _Wrong(Exception):
    """What was fetched is not what the index says."""


def _as_error(error: Exception, where: str) -> StoreUnreachable:
    if isinstance(error, StoreUnreachable):
        return error
    return StoreUnreachable(f"{where} changes while it is fetched: wait until nobody writes it")


def _is_whole(folder: Path, entry: Entry) -> bool:
    """Whether a version is there, and every byte of it is right."""
    try:
        return all(_digest(folder / file) == stored.sha256 for file, stored in entry.files.items())
    except OSError:
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

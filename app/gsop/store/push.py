"""Publishes a version to a remote store: whole or not at all, and never over another. No torch."""

import hashlib
import logging
from pathlib import Path

from gsop.errors import StoreError
from gsop.store.index import FILES, INDEX_FILE, Entry, Index, StoredFile
from gsop.store.manifest import WEIGHTS_FILE, Manifest, read_manifest
from gsop.store.remote import Absent, Changed, Remote, Taken

log = logging.getLogger("gsop.store")

PIECE = 8 << 20
TRIES = 20
"""So often may others be quicker to write the index."""


def push(folder: Path, remote: Remote) -> Manifest:
    """Publish the version in ``folder``; its index entry comes last, and readers look there first.

    What broke off may be pushed again: files that are there already, and the same, are left.

    Raises:
        StoreError: if the store has another version of that name, or the files do not fit together.
        StoreUnreachable: if the store does not answer.
    """
    manifest = read_manifest(folder)
    reference = f"{manifest.name}/{manifest.version}"
    files = {name: _described(folder / name) for name in FILES if (folder / name).exists()}
    if WEIGHTS_FILE not in files or files[WEIGHTS_FILE].sha256 != manifest.sha256:
        raise StoreError(
            f"{folder / WEIGHTS_FILE} is not what its manifest describes: `gsop models verify "
            f"{reference}` says more"
        )
    entry = Entry.model_validate({"files": files})
    _check_free(_read(remote)[0], reference, entry, remote)
    for name in files:
        _create(folder / name, f"{reference}/{name}", files[name], remote)
    _enter(reference, entry, remote)
    return manifest


def _described(path: Path) -> StoredFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return StoredFile(sha256=digest, size=path.stat().st_size)


def _create(source: Path, path: str, stored: StoredFile, remote: Remote) -> None:
    try:
        remote.create(path, source)
    except Taken:
        if not _is_there(path, stored, remote):
            raise StoreError(
                f"{remote.where}/{path} is there already, and another file: versions never change; "
                "publish under a new one, or delete what a publisher left that broke off"
            ) from None


def _is_there(path: str, stored: StoredFile, remote: Remote) -> bool:
    """Whether an object is that file."""
    digest = hashlib.sha256()
    try:
        for start in range(0, stored.size, PIECE):
            piece = remote.read(path, start, min(start + PIECE, stored.size))
            digest.update(piece.data)
    except (Absent, StoreError):  # also one that is shorter
        return False
    return digest.hexdigest() == stored.sha256


def _read(remote: Remote) -> tuple[Index, str | None]:
    """The index, and how the store calls it; an empty one where there is none."""
    etag = remote.tag_of(INDEX_FILE)
    if etag is None:
        return Index(), None
    return Index.parse(remote.read_index(), f"{remote.where}/{INDEX_FILE}"), etag


def _check_free(index: Index, reference: str, entry: Entry, remote: Remote) -> None:
    if index.versions.get(reference, entry) != entry:
        raise StoreError(
            f"{remote.where} has {reference} already, and it is another one: versions never "
            "change; publish under a new one"
        )


def _enter(reference: str, entry: Entry, remote: Remote) -> None:
    """Add a version to the index, whoever else does so at the same time."""
    for _ in range(TRIES):
        index, etag = _read(remote)
        _check_free(index, reference, entry, remote)
        data = index.joined_by(reference, entry).write()
        try:
            if etag is None:
                remote.create(INDEX_FILE, data)
            else:
                remote.replace(INDEX_FILE, data, etag)
        except (Changed, Taken):
            log.info("somebody else has written the index of %s: once more", remote.where)
        else:
            return
    raise StoreError(f"{remote.where}: others are quicker to write the index each time: try again")

"""Which versions a store holds, judged by their manifests alone. No torch.

A store is a folder of models, each a folder of versions: ``<root>/<name>/<version>/``. Folders
whose names are no names (hidden ones, the temporary ones of a publisher, ``lost+found``) are
passed over; a version whose manifest cannot be read is listed with the reason.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gsop.errors import StoreError
from gsop.store.manifest import MANIFEST_FILE, NAME_PATTERN, Manifest, VersionKey, read_manifest


@dataclass(frozen=True)
class StoredVersion:
    """One version folder, readable or not.

    Attributes:
        name: the model's name, from the folder.
        version: the version's name, from the folder; empty if the model's cannot be read.
        folder: where it lies.
        manifest: what it says of itself; ``None`` if that cannot be read.
        error: why the manifest cannot be read, and what to do; ``None`` if it can.
    """

    name: str
    version: str
    folder: Path
    manifest: Manifest | None
    error: str | None

    @property
    def reference(self) -> str:
        """The version as it is asked for, ``name/version``."""
        return f"{self.name}/{self.version}"


def list_versions(root: Path) -> list[StoredVersion]:
    """Every version under ``root``, by name and then from the oldest version to the newest.

    Raises:
        StoreError: if ``root`` is no folder that can be read.
    """
    stored = [
        version
        for model in sorted(_named_folders(root), key=lambda model: model.name)
        for version in _versions_of(model)
    ]
    # A version that was removed while the list was made is none, rather than a bad one.
    return [version for version in stored if version.error is None or version.folder.exists()]


def find(root: Path, reference: str) -> list[StoredVersion]:
    """The stored versions that ``reference`` means, readable or not; at least one.

    Args:
        root: the store.
        reference: ``name`` for all versions of a model, oldest first, or ``name/version``.

    Raises:
        StoreError: if there is no such version.
    """
    name, slash, version = reference.partition("/")
    if not is_name(name) or (slash and not is_name(version)):
        raise StoreError(
            f"{reference!r} names no version: write NAME or NAME/VERSION, each of letters, "
            "digits, '.', '_' and '-', beginning with a letter or digit"
        )
    stored = list_versions(root)
    found = [v for v in stored if v.name == name and version in ("", v.version)]
    if not found:
        raise StoreError(f"{root} holds no {reference}; it {_held(root, stored)}")
    return found


def resolve(root: Path, reference: str) -> Manifest:
    """The manifest that ``reference`` means.

    Args:
        root: the store.
        reference: ``name`` for the newest version whose manifest can be read, or
            ``name/version`` for that one.

    Raises:
        StoreError: if there is no such version, or its manifest cannot be read.
    """
    found = find(root, reference)
    readable = [v.manifest for v in found if v.manifest is not None]
    if not readable:
        raise StoreError("; ".join(v.error for v in found if v.error is not None))
    return readable[-1]


def next_version(root: Path, name: str) -> str:
    """The number after the highest that is a version of model ``name``; ``1`` if there is none.

    Raises:
        StoreError: if ``root`` exists and is no folder that can be read.
    """
    if not root.exists():
        return "1"
    versions = [stored.version for stored in list_versions(root) if stored.name == name]
    return str(max((int(v) for v in versions if v.isdecimal()), default=0) + 1)


def is_name(text: str) -> bool:
    """Whether ``text`` can name a model or a version: one path component that cannot climb."""
    return NAME_PATTERN.fullmatch(text) is not None


def _held(root: Path, stored: Iterable[StoredVersion]) -> str:
    for pattern, what in ((MANIFEST_FILE, "version"), (f"*/{MANIFEST_FILE}", "model")):
        if any(root.glob(pattern)):
            return f"is a {what} itself: name the folder above it that holds NAME/VERSION"
    return f"holds {_listing(stored)}"


def _listing(stored: Iterable[StoredVersion]) -> str:
    return ", ".join(v.reference for v in stored) or "no version at all: publish one"


def _named_folders(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if is_name(path.name) and path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(
            f"the model store {folder} is no folder: create it, or name the right one"
        ) from None
    except OSError as error:
        raise StoreError(f"the model store's folder {folder} cannot be read: {error}") from error


def _versions_of(model: Path) -> list[StoredVersion]:
    """A model's versions; one without a name if the folder cannot be read, for others can."""
    try:
        folders = _named_folders(model)
    except StoreError as error:
        return [StoredVersion(model.name, "", model, None, str(error))]
    folders.sort(key=lambda folder: (VersionKey.of(folder.name), folder.name))
    return [_read_version(folder) for folder in folders]


def _read_version(folder: Path) -> StoredVersion:
    manifest, reason = None, None
    try:
        manifest = read_manifest(folder)
    except StoreError as error:
        reason = str(error)
    return StoredVersion(folder.parent.name, folder.name, folder, manifest, reason)

"""``gsop models verify``: is what the store holds what its manifests say?"""

from collections.abc import Sequence

from gsop.errors import StoreError
from gsop.settings import Settings
from gsop.store import store
from gsop.store.catalog import StoredVersion, find, list_versions


def verify(settings: Settings, references: Sequence[str]) -> int:
    """Load each version as the service would, and print a line for it.

    Args:
        settings: where the store is.
        references: ``name`` for all versions of a model, or ``name/version``; none for the store.

    Returns:
        The exit status: 1 if a version is bad.

    Raises:
        StoreError: if there is no such version, or none at all.
    """
    bad = 0
    for version in _chosen(settings, references):
        try:
            store.verify(version.folder)
        except StoreError as error:
            bad += 1
            print(f"{version.reference}: bad: {error}", flush=True)
        else:
            print(f"{version.reference}: good", flush=True)
    return 1 if bad else 0


def _chosen(settings: Settings, references: Sequence[str]) -> list[StoredVersion]:
    root = settings.model_store
    if references:
        return [version for reference in references for version in find(root, reference)]
    if stored := list_versions(root):
        return stored
    raise StoreError(f"{root} holds no version: publish one, or name another store")

"""``gsop models push``: publish a version to a remote store."""

from gsop.settings import Settings
from gsop.store.catalog import resolve
from gsop.store.push import push
from gsop.store.remote import Remote


def push_model(settings: Settings, reference: str, *, to: str) -> int:
    """Publish a stored version; the exit status.

    Args:
        settings: where the store is that has it.
        reference: the version.
        to: the address of the store that is to have it.

    Raises:
        SetupError: if there is no such version here, or it cannot be published there.
    """
    manifest = resolve(settings.model_store, reference)
    remote = Remote(to)
    push(settings.model_store / manifest.name / manifest.version, remote)
    print(f"pushed {manifest.name}/{manifest.version} to {remote.where}")
    return 0

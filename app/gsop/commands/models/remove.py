"""``gsop models remove``: take a version out of the store."""

from gsop.errors import ConfigError, StoreError
from gsop.settings import Settings
from gsop.store.catalog import find
from gsop.store.remove import remove


def remove_model(settings: Settings, reference: str, *, confirmed: bool) -> int:
    """Remove one version; the exit status is 1 if the user would rather keep it.

    Args:
        settings: where the store is.
        reference: ``name/version``.
        confirmed: do not ask.

    Raises:
        StoreError: if there is no such version, or it cannot be removed, as those that ship with
            the package.
        ConfigError: if nobody is there to be asked.
    """
    versions = find(settings.model_store, reference)
    if "/" not in reference:
        stored = ", ".join(version.reference for version in versions)
        raise StoreError(f"versions are removed one by one: write {stored}")
    (version,) = versions
    if settings.model_store != settings.own_store:
        raise StoreError(
            f"{reference} ships with the package and stays: name a store of your own with "
            "--model-store or GSOP_MODEL_STORE"
        )
    if not confirmed and not _ask(f"remove {version.reference} in {version.folder}?"):
        print(f"kept {version.reference}")
        return 1
    remove(version.folder)
    print(f"removed {version.reference}")
    return 0


def _ask(question: str) -> bool:
    try:
        answer = input(f"{question} [y/N] ")
    except EOFError as error:
        raise ConfigError("nobody is there to answer: say --yes to remove it unasked") from error
    return answer.strip().lower() in ("y", "yes")

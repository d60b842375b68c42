"""Takes a version out of a store, whole or not at all. No torch."""

import secrets
import shutil
from pathlib import Path

from gsop.errors import StoreError


def remove(folder: Path) -> None:
    """Remove the version in ``folder``; a reader sees the whole version or none.

    The folder is renamed to a hidden name, which no reader looks at, and then deleted. Its model's
    folder stays, even if it is empty: a reader may be about to list it, a publisher to write there.
    An engine that has loaded the version keeps it until it is restarted.

    Args:
        folder: of the version, readable or not.

    Raises:
        StoreError: if the store cannot be written. The version may be gone all the same; then a
            hidden folder is left, which the message names.
    """
    hidden = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        folder.rename(hidden)
    except FileNotFoundError:
        raise StoreError(f"{folder} is gone: somebody else removed it") from None
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be removed: {error.strerror}; mend its rights"
        ) from error
    try:
        shutil.rmtree(hidden)
    except OSError as error:
        raise StoreError(
            f"{folder} is removed from the store, but {hidden} cannot be deleted "
            f"({error.strerror}): delete it by hand"
        ) from error

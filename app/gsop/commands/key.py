"""``gsop key``: a new API key for its client, and the entry for the operator."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from gsop.errors import ConfigError
from gsop.keys import make_key


def key(name: str, scopes: Sequence[str], file: Path | None, expires: date | None = None) -> int:
    """Make a key and print it, once; add its entry to ``file`` if there is one.

    Raises:
        ConfigError: if the name or a scope is none, or the file cannot be written.
    """
    try:
        text, entry = make_key(name, [scope.strip() for scope in scopes], expires)
    except ValueError as error:
        raise ConfigError(
            f"no key for {name!r}: a name is of letters, digits, '.', '_' and '-'; scopes are "
            "predict, attention and admin"
        ) from error
    if file is not None:
        try:
            with file.open("a", encoding="utf-8") as entries:
                entries.write(f"{entry}\n")
        except OSError as error:
            raise ConfigError(f"{file} cannot be written: {error.strerror}") from error
    print(f"key    {text}")
    print(f"entry  {entry}")
    return 0

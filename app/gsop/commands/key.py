"""``gsop key``: a new API key for its client, and the entry for the operator."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from gsop.errors import ConfigError
from gsop.keys import make_key


def key(name: str, scopes: Sequence[str], expires: date | None, file: Path | None) -> int:
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
            _check_is_new(name, file)
            with file.open("a", encoding="utf-8") as entries:
                entries.write(f"{entry}\n")
        except OSError as error:
            raise ConfigError(f"{file} cannot be written: {error.strerror}") from error
    print(f"key    {text}")
    print(f"entry  {entry}")
    return 0


def _check_is_new(name: str, file: Path) -> None:
    """The service starts with no two entries of a name, which its log could not tell apart."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    if any(line.strip().startswith(f"{name}:") for line in lines):
        raise ConfigError(
            f"{file} has an entry for {name} already: while its client changes keys use another "
            f"name, such as {name}-2, and then remove the old line"
        )

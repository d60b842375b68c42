"""API keys: what one is, how it is written down, how it is recognised. No HTTP.

A key is 32 random bytes as text. The service never holds it: the operator writes down its SHA-256
in an entry ``NAME:SCOPES:SHA256`` (``shop:predict+attention:9f86d0…``), perhaps with the last day
on which it counts (``…:2027-12-31``, UTC). A plain hash suffices where the secret is random: 2^256
guesses need no slowing down, and each request would pay for it.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from gsop.errors import ConfigError, Forbidden

PREFIX = "gsop_"
"""Begins every key, so that scanners of repositories and logs can find one that leaked."""

_ENTRY = re.compile(
    r"(?P<name>[A-Za-z0-9._-]{1,64}):(?P<scopes>[a-z+]+):(?P<sha256>[0-9a-f]{64})"
    r"(:(?P<expires>\d{4}-\d\d-\d\d))?"
)


class KeyScope(StrEnum):
    """What a key may do."""

    PREDICT = "predict"
    """``POST /predict``."""
    ATTENTION = "attention"
    """The gates of the key's own predictions."""
    ADMIN = "admin"
    """Everything: also everybody's gates, and ``/metrics``."""


class ApiKey(BaseModel):
    """What the service knows of a key.

    Attributes:
        name: the client's, for the log.
        scopes: what the key may do.
        sha256: of the key's text, lower-case hexadecimal.
        expires: the last day on which it counts, UTC; ``None``: it always does.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    scopes: frozenset[KeyScope]
    sha256: str
    expires: date | None = None

    @classmethod
    def parse(cls, entry: str) -> Self:
        """Read ``NAME:SCOPES:SHA256`` or ``NAME:SCOPES:SHA256:LAST-DAY``.

        Raises:
            ValueError: if it is none. The message does not repeat it: it may be a key, by mistake.
        """
        match = _ENTRY.fullmatch(entry.strip())
        known = set(KeyScope)
        if match is None or not (scopes := set(match["scopes"].split("+"))) <= known:
            raise ValueError(
                f"an entry is not NAME:SCOPES:SHA256 with scopes of {'+'.join(KeyScope)}, and "
                "perhaps :YYYY-MM-DD behind it; `gsop key` makes one"
            )
        try:
            last = date.fromisoformat(match["expires"]) if match["expires"] else None
        except ValueError:
            raise ValueError("an entry ends with a day that no calendar has") from None
        return cls(
            name=match["name"],
            scopes=frozenset(map(KeyScope, scopes)),
            sha256=match["sha256"],
            expires=last,
        )

    def __str__(self) -> str:
        """The entry that :meth:`parse` reads."""
        last = "" if self.expires is None else f":{self.expires.isoformat()}"
        scopes = "+".join(scope for scope in KeyScope if scope in self.scopes)
        return f"{self.name}:{scopes}:{self.sha256}{last}"

    def is_over(self, today: date) -> bool:
        """Whether its last day has passed."""
        return self.expires is not None and today > self.expires


@dataclass(frozen=True)
class Caller:
    """Who sent a request.

    Attributes:
        name: of the key; empty without keys.
        number: marks what is the caller's, as long as the service runs; 0 without keys.
        scopes: what the caller may do.
    """

    name: str
    number: int
    scopes: frozenset[KeyScope]

    def require(self, scope: KeyScope, what: str) -> None:
        """Check a permission that depends on more than the call.

        Raises:
            Forbidden: if the caller lacks it; ``what`` says for what it is needed.
        """
        if not self.scopes & {scope, KeyScope.ADMIN}:
            raise Forbidden(f"{what} needs a key with the scope {scope}; ask the operator for one")

    @property
    def sees(self) -> int | None:
        """The caller whose records this one may see; ``None``: everybody's."""
        return None if KeyScope.ADMIN in self.scopes else self.number


ANYBODY = Caller("", 0, frozenset(KeyScope))
"""The caller where there are no keys."""


def make_key(name: str, scopes: Sequence[str], expires: date | None = None) -> tuple[str, ApiKey]:
    """A new key's text, which nothing else will ever hold, and its entry.

    Raises:
        ValueError: if the name or a scope cannot be written in an entry.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    entry = ApiKey.parse(f"{name}:{'+'.join(scopes)}:{digest_of(key.encode())}")
    return key, entry.model_copy(update={"expires": expires})


def digest_of(key: bytes) -> str:
    """The SHA-256 of a key's text, in hexadecimal."""
    return hashlib.sha256(key).hexdigest()


def recognise(keys: Sequence[ApiKey], key: bytes) -> int | None:
    """Which of ``keys`` the text ``key`` is, ``None`` if it is none.

    Every entry is compared, each in constant time: how long it takes tells nothing.
    """
    digest, found = digest_of(key), None
    for number, known in enumerate(keys):
        if hmac.compare_digest(digest, known.sha256):
            found = number
    return found


def check_distinct(keys: Sequence[ApiKey]) -> None:
    """No two keys are called or are the same.

    Raises:
        ValueError: if two are.
    """
    if len({key.name for key in keys}) != len(keys):
        raise ValueError("two entries of GSOP_API_KEYS have the same name; rename one")
    if len({key.sha256 for key in keys}) != len(keys):
        raise ValueError("two entries of GSOP_API_KEYS are of the same key; remove one")


def read_entries(path: Path) -> list[str]:
    """The entries of ``GSOP_API_KEYS_FILE``, one at least.

    Raises:
        ConfigError: if it cannot be read, or holds none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"GSOP_API_KEYS_FILE: {path} cannot be read: {error}") from error
    entries = [line.partition("#")[0].strip() for line in lines]
    found = [entry for entry in entries if entry]
    if not found:
        raise ConfigError(
            f"GSOP_API_KEYS_FILE: {path} holds no entry; add one that `gsop key` makes, "
            "or unset the variable"
        )
    return found

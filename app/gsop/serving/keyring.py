"""The keys that the service knows now, and the file in which operators add and withdraw them.

The supervisor alone reads the file, and tells the fronts by a bulletin; they judge each request by
the newest. A file that cannot be read, or holds a fault, changes nothing, and the log says so: no
slip of an operator's locks everybody out. So write it whole (to another name, then rename), and
look at the log.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from gsop.arena.bulletin import Writer
from gsop.arena.service import MOST_KEY_NUMBERS
from gsop.errors import ConfigError
from gsop.keys import ApiKey, Caller
from gsop.settings import read_api_keys

log = logging.getLogger("gsop.supervisor")

LOOK_SECONDS = 0.25
"""How often the file is looked at."""

MOST_KEYS = 1000
"""That there is room for at once."""


class Known(BaseModel):
    """A key, and the number that marks what is its caller's.

    Attributes:
        number: never another's while the service runs.
        key: as its entry says.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    key: ApiKey

    @property
    def caller(self) -> Caller:
        """Who sends a request with it."""
        return Caller(self.key.name, self.number, self.key.scopes)


class Keyring(BaseModel):
    """All keys, as fronts know them.

    Attributes:
        known: each with its number.
    """

    model_config = ConfigDict(frozen=True)

    known: tuple[Known, ...] = ()

    @classmethod
    def parse(cls, text: bytes) -> "Keyring":
        """What the supervisor wrote; nothing before it has."""
        return cls.model_validate_json(text) if text else cls()


class Keeper:
    """Gives keys their numbers, and tells the fronts."""

    def __init__(self, writer: Writer, keys: Sequence[ApiKey]) -> None:
        self._writer = writer
        self._numbers: dict[str, int] = {}
        self._digests: tuple[str, ...] = ("",)
        self._keys: tuple[ApiKey, ...] = ()
        self.keep(keys)

    def keep(self, keys: Sequence[ApiKey]) -> None:
        """These are the keys from now on.

        Raises:
            ConfigError: if there are more than there is room for.
        """
        ever = self._numbers.keys() | {key.sha256 for key in keys}
        if len(keys) > MOST_KEYS or len(ever) > MOST_KEY_NUMBERS:
            raise ConfigError(
                f"there are more than {MOST_KEYS} API keys, or more than {MOST_KEY_NUMBERS} have "
                "come since the start: remove some, or start the service again"
            )
        for key in keys:
            self._numbers.setdefault(key.sha256, len(self._numbers) + 1)
        self._digests = ("", *self._numbers)
        known = tuple(Known(number=self._numbers[key.sha256], key=key) for key in keys)
        self._writer.write(Keyring(known=known).model_dump_json().encode())
        before, now = {k.name for k in self._keys}, {k.name for k in keys}
        if self._keys and keys != self._keys:
            log.info("API keys: added %s, withdrawn %s", sorted(now - before), sorted(before - now))
        self._keys = tuple(keys)

    def digest(self, number: int) -> str:
        """Of a caller's key, the same in all instances; empty for 0, where there are no keys."""
        return self._digests[number]


def follow_keys(keeper: Keeper, path: Path, is_stopping: Callable[[float], bool]) -> None:
    """Have the keeper keep what the file says, whenever that has changed."""
    seen = _mark(path)
    while not is_stopping(LOOK_SECONDS):
        if (mark := _mark(path)) == seen:
            continue
        seen = mark
        try:
            keeper.keep(read_api_keys(path))
        except ConfigError as error:
            log.error("the API keys stay as they are: %s", error)


def _mark(path: Path) -> tuple[int, ...]:
    """Changes when the file does."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size

"""What an operator wants loaded, and how requests are to be spread: a small file that outlives us.

    {"models": {"digits": {"stable": "1", "canary": "2", "percent": 20, "loaded": ["3"]}}}

It is replaced whole. Where it cannot be written, it is only read: then somebody else declares what
is to be, as in a ConfigMap.
"""

import logging
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from gsop.errors import ConfigError
from gsop.serving.traffic import Traffic, VersionName
from gsop.store.manifest import validation_reasons

log = logging.getLogger("gsop.supervisor")

MOST_BYTES = 1 << 18


class DesiredModel(Traffic):
    """What is wanted of one model.

    Attributes:
        loaded: versions to have loaded beside those that get requests.
    """

    loaded: tuple[VersionName, ...] = ()

    @property
    def traffic(self) -> Traffic:
        """The shares alone."""
        return Traffic(**self.model_dump(exclude={"loaded"}))


class Desired(BaseModel):
    """What is wanted of all models, the default first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: dict[str, DesiredModel]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read it.

        Raises:
            ConfigError: if it is no such text.
        """
        try:
            desired = cls.model_validate_json(text)
        except ValidationError as error:
            raise ConfigError(
                f"what is wanted cannot be read: {validation_reasons(error)}"
            ) from None
        if not desired.models:
            raise ConfigError("what is wanted names no model")
        return desired


class DesiredFile:
    """The file of ``GSOP_STATE``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: str | None = None

    def read(self) -> Desired | None:
        """What it says; ``None`` if there is none.

        Raises:
            ConfigError: if it cannot be read, or says nothing that can be.
        """
        try:
            with self.path.open(encoding="utf-8") as file:
                text = file.read(MOST_BYTES)
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"GSOP_STATE: {self.path} cannot be read: {error}") from error
        self._seen = text
        try:
            return Desired.parse(text)
        except ConfigError as error:
            raise ConfigError(f"GSOP_STATE: {self.path}: {error}") from None

    def changed(self) -> bool:
        """Whether somebody else has written it since it was read or written here."""
        try:
            with self.path.open(encoding="utf-8") as file:
                return file.read(MOST_BYTES) != self._seen
        except (OSError, UnicodeDecodeError):  # being replaced, or gone: what is, stays
            return False

    def write(self, desired: Desired) -> bool:
        """Replace it whole; whether that could be done."""
        text = desired.model_dump_json(indent=2) + "\n"
        if text == self._seen:
            return True
        try:
            with tempfile.NamedTemporaryFile(
                "w", dir=self.path.parent, prefix=f".{self.path.name}.", delete=False
            ) as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(file.name, self.path)  # noqa: PTH105  # of two texts
        except OSError as error:
            with suppress(OSError, NameError):
                os.unlink(file.name)  # noqa: PTH108
            log.warning(
                "the change will not outlive the service: %s cannot be written: %s",
                self.path,
                error,
            )
            return False
        self._seen = text
        return True

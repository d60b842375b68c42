"""How a model's requests are spread over its loaded versions.

Read once for each request, from one record: whatever changes, a request sees the old shares or the
new ones, never half of each.
"""

import hashlib
import random
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Role = Literal["stable", "canary", "requested"]
"""Why a version answers: it is its model's usual one, it is on trial, or it was named."""

VersionName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]

STICKY = r"^(key|header:[A-Za-z0-9-]{1,64})$"

Lookup = Callable[[str], str | None]
"""The value of a request's header, by its name in small letters."""


class Traffic(BaseModel):
    """The shares of one model's versions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stable: VersionName = Field(description="The version that answers whatever no other does.")
    canary: VersionName | None = Field(
        default=None, description="A version on trial, which answers `percent` of the requests."
    )
    percent: float = Field(default=0, ge=0, le=100, description="The canary's share.")
    shadow: VersionName | None = Field(
        default=None,
        description="A version that gets copies of images after their answers are out, as far as "
        "slots are free; its answers are compared, and nobody gets them.",
    )
    sticky: Annotated[str, Field(pattern=STICKY)] | None = Field(
        default=None,
        description="What decides whether a request is the canary's: chance for each (`null`), "
        "its API key (`key`), or a header's value (`header:NAME`).",
    )
    auto_rollback: bool = Field(
        default=False,
        description="Whether a canary that does worse than the stable version loses its share.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.canary is None and self.percent:
            raise ValueError("percent without a canary: name the version that is to get the share")
        if self.stable in (self.canary, self.shadow):
            raise ValueError("the stable version can be neither the canary nor the shadow")
        if self.canary is not None and self.canary == self.shadow:
            raise ValueError("one version cannot be both canary and shadow")
        return self

    @property
    def versions(self) -> list[str]:
        """Every version that it names."""
        return [v for v in (self.stable, self.canary, self.shadow) if v is not None]

    def choose(self, name: str, key: str | None) -> tuple[str, Role]:
        """The version that is to answer a request, and why.

        Args:
            name: the model's.
            key: what the choice sticks to; ``None``: each request by chance.
        """
        if self.canary is None or not self.percent:
            return self.stable, "stable"
        drawn = random.random() if key is None else position(f"{name}/{self.canary}", key)  # noqa: S311  # no secret
        return (self.canary, "canary") if drawn * 100 < self.percent else (self.stable, "stable")

    @property
    def compared(self) -> list[tuple[str, Literal["canary", "shadow"]]]:
        """The versions that are compared with the stable one, and as what."""
        pairs: list[tuple[str | None, Literal["canary", "shadow"]]] = [
            (self.canary, "canary"),
            (self.shadow, "shadow"),
        ]
        return [(version, role) for version, role in pairs if version is not None]

    @property
    def pair(self) -> tuple[str | None, ...]:
        """What is compared: another pair is another comparison."""
        return self.stable, self.canary, self.shadow

    def changed(self, **fields: object) -> "Traffic":
        """The same but for these fields."""
        return Traffic(**{**self.model_dump(), **fields})

    def __str__(self) -> str:
        """In words."""
        parts = [f"{self.stable} stable"]
        if self.canary is not None:
            sticky = f" by {self.sticky}" if self.sticky else ""
            parts.append(f"{self.canary} canary with {self.percent:g} %{sticky}")
        if self.shadow is not None:
            parts.append(f"{self.shadow} shadow")
        return ", ".join(parts)


def position(salt: str, key: str) -> float:
    """Where a key lies in [0, 1), the same in every process; other salts choose others."""
    digest = hashlib.blake2b(key.encode(), salt=hashlib.sha256(salt.encode()).digest()[:16])
    return int.from_bytes(digest.digest()[:8], "big") / 2**64


class Shares(NamedTuple):
    """One model's record.

    Attributes:
        revision: how often it was changed; the tag of ``If-Match``.
        run: which comparison its versions are in; another pair begins another one.
        traffic: the shares.
    """

    revision: int
    run: int
    traffic: Traffic


class Routing(BaseModel):
    """All models' shares: what the supervisor writes and every request is spread by.

    Attributes:
        default: the model that answers requests which name none.
        models: by name.
    """

    model_config = ConfigDict(frozen=True)

    default: str = ""
    models: dict[str, Shares] = {}

    @classmethod
    def parse(cls, text: bytes) -> "Routing":
        """The inverse of ``model_dump_json``; of no text, that of no model."""
        return cls.model_validate_json(text) if text else cls()

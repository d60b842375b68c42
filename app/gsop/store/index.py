"""What a remote store says that it holds: digest and size of each file of each version. No torch.

``index.json`` lies at the store's root, and is the one object there that is ever replaced. Nothing
of a remote store is believed but what the index vouches for; whether the index is believed is the
operator's to say, by whom they let write it, or by its digest (:mod:`gsop.store.remote`).
"""

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gsop.errors import StoreError
from gsop.store.manifest import (
    MANIFEST_FILE,
    NAME_PATTERN,
    WEIGHTS_FILE,
    VersionKey,
    validation_reasons,
)
from gsop.store.reference import REFERENCE_FILE

INDEX_FILE: Final = "index.json"

FILES: Final = (WEIGHTS_FILE, REFERENCE_FILE, MANIFEST_FILE)
"""All that a version may consist of, in the order in which it is published."""

MOST_BYTES: Final = 1 << 23
"""A larger index is none: that of ten thousand versions is half as large."""

_NAME = NAME_PATTERN.pattern


class StoredFile(BaseModel):
    """One file.

    Attributes:
        sha256: lower-case hexadecimal.
        size: bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0, le=1 << 40)]


class Entry(BaseModel):
    """One version.

    Attributes:
        files: by their names.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: dict[Literal["model.safetensors", "reference.safetensors", "manifest.json"], StoredFile]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if lacking := {MANIFEST_FILE, WEIGHTS_FILE} - self.files.keys():
            raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
        return self

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


class Index(BaseModel):
    """All versions.

    Attributes:
        format: of the index, 1.
        versions: by ``name/version``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    versions: dict[Annotated[str, Field(pattern=f"^{_NAME}/{_NAME}$")], Entry] = {}

    @classmethod
    def parse(cls, data: bytes, where: str) -> Self:
        """Read it.

        Raises:
            StoreError: if it is none that this release reads.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise StoreError(
                f"{where} is no index of models that this release reads "
                f"({validation_reasons(error)}): publish with `gsop models push`"
            ) from None

    def write(self) -> bytes:
        """As :meth:`parse` reads it."""
        return self.model_dump_json(indent=1).encode() + b"\n"

    def of(self, name: str) -> list[str]:
        """The versions of a model, oldest first."""
        found = [ref.partition("/")[2] for ref in self.versions if ref.startswith(f"{name}/")]
        return sorted(found, key=lambda version: (VersionKey.of(version), version))

    def get(self, name: str, version: str, where: str) -> Entry:
        """One version.

        Raises:
            StoreError: if there is none.
        """
        entry = self.versions.get(f"{name}/{version}")
        if entry is None:
            listed = ", ".join(self.of(name)) or "none"
            raise StoreError(f"{where} holds no {name}/{version}; of {name} it holds {listed}")
        return entry

    def joined_by(self, reference: str, entry: Entry) -> Self:
        """With one version more."""
        return self.model_copy(update={"versions": {**self.versions, reference: entry}})

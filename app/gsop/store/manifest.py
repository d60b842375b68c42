"""What a model version is: the text beside its weights. No torch.

``model_store/<name>/<version>/manifest.json`` holds all that is needed to rebuild the network,
to prepare its input and to name its output; ``model.safetensors`` lies beside it.
"""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from gsop.errors import StoreError
from gsop.gates.answers import AnswerLayout
from gsop.images import InputSpec
from gsop.model.config import GSoPResNetConfig, gate_layout
from gsop.store.files import read_regular

FORMAT: Final = 1
"""The manifest format that this code writes, and the only one that it reads."""

MOST_DIGITS = 20
"""Of a number that may name a class, or be a part of a version's name, as a number."""

MOST_BYTES = 16 * 2**20
"""Of a manifest: labels of a million classes."""

MANIFEST_FILE = "manifest.json"
WEIGHTS_FILE = "model.safetensors"

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names and versions: one path component that can neither hide nor climb."""

Name = Annotated[str, Field(pattern=rf"^{NAME_PATTERN.pattern}$")]


class Manifest(BaseModel):
    """One model version.

    Attributes:
        format: the manifest format, 1.
        name: the model's name; the folder's too.
        version: the version's name; the folder's too.
        config: the network.
        input: how an image is prepared.
        labels: one text a class, in the order of the logits.
        temperature: that logits are divided by before the softmax, so that probabilities can be
            believed; 1 leaves them as they are.
        metrics: what was measured (``dataset``, ``top1``, ``how``, …), free in form.
        sha256: of the weights' file, lower-case hexadecimal.
        created: when the version was published, with time zone.
        provenance: where the weights come from, free in form.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    name: Name
    version: Name
    config: GSoPResNetConfig
    input: InputSpec
    labels: tuple[str, ...]
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    metrics: dict[str, Any] = {}
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    created: AwareDatetime
    provenance: dict[str, Any] = {}

    @model_validator(mode="after")
    def _labels_match_classes(self) -> Self:
        if len(self.labels) != self.config.num_classes:
            raise ValueError(
                f"{len(self.labels)} labels for {self.config.num_classes} classes; "
                "labels must name each class once, in the order of the logits"
            )
        return self

    @cached_property
    def answer(self) -> AnswerLayout:
        """What an answer of the network holds."""
        gates = gate_layout(self.config, self.input.height, self.input.width)
        return AnswerLayout(self.labels, gates)

    def class_id(self, text: str) -> int | None:
        """The class that ``text`` names, by label or by number; ``None`` if there is none."""
        if text in self.labels:
            return self.labels.index(text)
        if text.isascii() and text.isdigit() and len(text) < MOST_DIGITS:
            return int(text) if int(text) < len(self.labels) else None
        return None


@dataclass(frozen=True, order=True)
class VersionKey:
    """Sorts versions as people count: ``2`` before ``10``, ``1.9`` before ``1.10``."""

    parts: tuple[tuple[int, int, str], ...]

    @classmethod
    def of(cls, version: str) -> Self:
        """The key of a version's name."""
        pieces = re.findall(r"\d+|[^\d]+", version)
        return cls(tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in pieces))


def validation_reasons(error: ValidationError) -> str:
    """What is wrong with a manifest, field by field, on one line."""
    return "; ".join(
        f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in error.errors()
    )


def _refuse(constant: str) -> None:
    """NaN and the like, which Python's JSON knows and JSON does not; NaN is not what itself is."""
    raise ValueError(f"{constant} is no number there")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the version in ``folder``.

    Raises:
        StoreError: if there is none, it is not valid, or it names another folder.
    """
    path = folder / MANIFEST_FILE
    try:
        text = read_regular(path, MOST_BYTES).decode()
    except FileNotFoundError:
        raise StoreError(
            f"{path} is missing: a version is a folder with {MANIFEST_FILE} and {WEIGHTS_FILE}; "
            "publish the version again"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    try:
        raw = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:  # too deep, or a number of too many digits
        raise StoreError(f"{path} is not JSON ({error}); publish the version again") from error
    if isinstance(raw, dict) and raw.get("format") != FORMAT:
        raise StoreError(
            f"{path} has format {raw.get('format')!r}, this service reads format {FORMAT}: "
            "publish the version again with this release, or serve it with the one that wrote it"
        )
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        reasons = validation_reasons(error)
        raise StoreError(f"{path} is not valid ({reasons}); publish the version again") from error
    if (manifest.name, manifest.version) != (folder.parent.name, folder.name):
        raise StoreError(
            f"{path} describes {manifest.name}/{manifest.version} but lies in "
            f"{folder.parent.name}/{folder.name}: move the folder, or publish the version again"
        )
    return manifest

"""Answers to many files on disk, gates and all: a folder of Parquet files that can be gone on with.

::

    OUT/_answers.json          which model, version and files they are of
    OUT/part-00000.parquet     the first 2048 files, in their order
    OUT/part-00001.parquet     ...

A part appears whole or not at all, so whoever was killed goes on with the first part that is not
there. ``pandas.read_parquet(OUT)`` and ``pyarrow.dataset.dataset(OUT)`` read all parts as one
table: readers pass over what begins with ``_`` or ``.``.
"""

import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gsop.commands.local import Answered
from gsop.errors import ConfigError
from gsop.paths import printable
from gsop.store.files import replace_file, sync_folder
from gsop.store.manifest import Manifest

if TYPE_CHECKING:
    import pyarrow

PART_FILES = 2048
"""Files of a part: of a ResNet-50's answers some 40 MB."""

IDENTITY_FILE = "_answers.json"

_PARTIAL = ".tmp"


def read_parquet() -> Any:
    """The module of pyarrow that reads and writes Parquet files.

    Raises:
        ConfigError: if pyarrow is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(
            "folders of gates are Parquet files, for which pyarrow is missing: "
            "pip install '.[frames]', or name a file that ends in .npz"
        ) from error
    return pyarrow.parquet


class Shards:
    """A folder of answers.

    Args:
        folder: created if it is not there.
        manifest: of the version that answers.
        files: all of them, in order.
        precision: that it computes in.

    Raises:
        ConfigError: if pyarrow is missing, the folder cannot be written, or it holds answers of
            another version or to other files.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, files: Sequence[Path], precision: str
    ) -> None:
        self._parquet = read_parquet()
        self._folder = folder
        self._manifest = manifest
        self._files = files
        names = hashlib.sha256("\0".join(map(str, files)).encode(errors="surrogateescape"))
        identity = {
            "model": manifest.name,
            "version": manifest.version,
            "weights": manifest.sha256,
            "precision": precision,
            "files": len(files),
            "names": names.hexdigest(),
            "part_files": PART_FILES,
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._claim(identity)
        except OSError as error:
            raise ConfigError(f"{folder} cannot be written: {error.strerror}") from error

    def _claim(self, identity: dict[str, Any]) -> None:
        """Take the folder for these answers, or go on with them."""
        path = self._folder / IDENTITY_FILE
        if not path.exists():
            if any(self._folder.iterdir()):
                raise ConfigError(
                    f"{self._folder} holds other files: name a new folder, or one that holds "
                    "answers to be gone on with"
                )
            replace_file(path, (json.dumps(identity, indent=2) + "\n").encode())
            return
        try:
            found = json.loads(path.read_bytes())
        except ValueError:
            found = {}
        if found != identity:
            differs = ", ".join(key for key in identity if found.get(key) != identity[key])
            raise ConfigError(
                f"{self._folder} holds other answers (another {differs}): name a new folder, or "
                "remove this one"
            )
        for left in self._folder.glob(f".*{_PARTIAL}"):
            left.unlink()

    def missing(self) -> Iterator[tuple[int, Sequence[Path]]]:
        """The parts that are not there yet: their numbers, and their files."""
        for start in range(0, len(self._files), PART_FILES):
            number = start // PART_FILES
            if not self._path(number).exists():
                yield number, self._files[start : start + PART_FILES]

    def write(self, number: int, answers: Iterable[Answered[Path]]) -> None:
        """Write a part, whole.

        Args:
            number: of the part.
            answers: to its files, in their order.

        Raises:
            ConfigError: if it cannot be written.
        """
        table = _table(self._manifest, list(answers))
        path = self._path(number)
        hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PARTIAL}")
        try:
            with hidden.open("wb") as file:
                self._parquet.write_table(table, file, compression="zstd")
            hidden.replace(path)
            sync_folder(self._folder)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
        finally:
            hidden.unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"part-{number:05}.parquet"


def _table(manifest: Manifest, answers: Sequence[Answered[Path]]) -> "pyarrow.Table":
    """One row a file; what a file that could not be read has none of is null."""
    import pyarrow as pa

    layout = manifest.answer
    known = np.array([answer.values is not None for answer in answers], bool)
    values = np.zeros((len(answers), layout.width), np.float32)
    for row, answer in enumerate(answers):
        if answer.values is not None:
            values[row] = answer.values
    probabilities, winners = layout.probabilities(values), layout.winners(values)
    best = probabilities[np.arange(len(answers)), winners]
    nothing = ~known

    def vectors(array: npt.NDArray[np.floating]) -> pa.Array:
        flat = pa.array(np.ascontiguousarray(array, np.float32).reshape(-1))
        width = array[0].size if len(array) else 1
        return pa.FixedSizeListArray.from_arrays(flat, width, mask=pa.array(nothing))

    errors = [None if a.error is None else a.error.code for a in answers]
    columns: dict[str, pa.Array] = {
        "file": pa.array([printable(answer.source) for answer in answers]),
        "class_id": pa.array(winners.astype(np.int32), mask=nothing),
        "label": pa.array(
            [layout.labels[w] if k else None for w, k in zip(winners, known, strict=True)],
            pa.string(),
        ),
        "probability": pa.array(best.astype(np.float32), mask=nothing),
        "error": pa.array(errors, pa.string()),
        "model": pa.array([manifest.name] * len(answers)).dictionary_encode(),
        "version": pa.array([manifest.version] * len(answers)).dictionary_encode(),
        "probabilities": vectors(probabilities),
    }
    for spec, gate in layout.gates_of(values):
        columns[spec.name] = vectors(gate.reshape(len(answers), -1))
    shapes = {spec.name: spec.shape for spec in layout.gates}
    facts = {"shapes": shapes, "labels": layout.labels, "weights": manifest.sha256}
    table: pa.Table = pa.table(columns).replace_schema_metadata({"gsop": json.dumps(facts)})
    return table

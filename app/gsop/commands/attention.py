"""``gsop attention``: what the gates of many images have in common, and what tells them apart."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.progress import track

from gsop.commands.attention_told import Row, Seen, report, show
from gsop.commands.local import answer_all, open_backend
from gsop.commands.predict import find_files
from gsop.commands.shards import IDENTITY_FILE, read_parquet
from gsop.errors import ConfigError
from gsop.gates import plates
from gsop.gates.groups import Groups
from gsop.paths import check_file, printable
from gsop.settings import Settings
from gsop.store.catalog import resolve
from gsop.store.manifest import Manifest

By = Literal["class", "folder"]

CHUNK = 256
"""Images that are counted at once."""


def attention(
    settings: Settings,
    folder: Path,
    *,
    by: By,
    against: str | None,
    model: str | None,
    scale: plates.Scale,
    output: Path | None,
    progress: bool,
) -> int:
    """Compare the gates of images, group by group.

    Args:
        settings: the store, the device, the precision.
        folder: of images, or of answers that ``gsop predict --attention`` wrote.
        by: ``class``: the predicted one; ``folder``: the folder that an image lies in.
        against: another such folder; or ``name[/version]``, another version for the same images.
        model: ``name`` or ``name/version``; the first of the settings' if absent. A folder of
            answers says itself which it is.
        scale: on which the colours of gates are read.
        output: HTML file for the report, none if absent.
        progress: whether to draw a progress bar.

    Raises:
        ConfigError: if a folder holds nothing to compare, or the report cannot be written.
        StoreError: if a version is not to be had.
    """
    if output is not None:
        check_file(output)
    read = _Reader(settings, by, progress)
    seen = read.see(folder, model)
    other = None
    if against is not None:
        is_folder = Path(against).is_dir()
        other = read.see(Path(against), model) if is_folder else read.again(folder, against)
    show(seen, other)
    if output is not None:
        try:
            page = printable(report(settings, seen, other, scale))  # it names files
            output.write_text(page, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{output} cannot be written: {error.strerror}") from error
        print(f"wrote {output}")
    return 0


@dataclass(frozen=True)
class _Reader:
    settings: Settings
    by: By
    progress: bool

    def see(self, folder: Path, model: str | None) -> Seen:
        """The gates of a folder's images, or those that are in it."""
        identity = folder / IDENTITY_FILE
        if not identity.exists():
            return self._computed(folder, model or self.settings.models[0])
        kept = json.loads(identity.read_bytes())
        manifest = resolve(self.settings.model_store, f"{kept['model']}/{kept['version']}")
        if manifest.sha256 != kept["weights"]:
            raise ConfigError(
                f"{folder} holds answers of another {manifest.name}/{manifest.version}: "
                "let gsop predict make them again"
            )
        return self._grouped(printable(folder), manifest, _kept(folder, manifest))

    def again(self, folder: Path, model: str) -> Seen:
        """The same images, answered by another version."""
        if (folder / IDENTITY_FILE).exists():
            raise ConfigError(
                f"{folder} holds answers of one version: name a folder of answers of the other "
                "with --against, or a folder of images"
            )
        return self._computed(folder, model)

    def _computed(self, folder: Path, model: str) -> Seen:
        manifest = resolve(self.settings.model_store, model)
        backend = open_backend(self.settings, manifest)
        files = find_files([str(folder)])
        answers = track(
            answer_all(backend, files, Path.read_bytes, max_pixels=self.settings.max_image_pixels),
            f"asking {manifest.name}/{manifest.version}",
            total=len(files),
            console=Console(stderr=True),
            disable=not self.progress,
        )
        rows = ((a.source, a.values) for a in answers if a.values is not None)
        what = f"{printable(folder)}, {manifest.name}/{manifest.version}"
        return self._grouped(what, manifest, rows)

    def _grouped(self, what: str, manifest: Manifest, rows: Iterable[Row]) -> Seen:
        layout = manifest.answer
        if not layout.gates:
            raise ConfigError(f"{manifest.name}/{manifest.version} has no gates to compare")
        names: list[str] = list(layout.labels) if self.by == "class" else []
        seen = Seen(what, manifest, Groups.empty(names, layout.gate_size))
        for some in _chunks(rows):
            values = np.stack([values for _, values in some])
            if self.by == "class":
                groups = layout.winners(values)
            else:
                groups = np.array([_number(file.parent.name, names) for file, _ in some])
                seen.groups = _widened(seen.groups, names)
            seen.groups.add(layout.gate_values(values), groups)
            for group, row in zip(groups.tolist(), some, strict=True):
                seen.examples.setdefault(group, row)
        if not seen.groups.images:
            raise ConfigError(f"{what}: none of the images can be read")
        return seen


def _kept(folder: Path, manifest: Manifest) -> Iterator[Row]:
    """The answers in a folder, a few at a time."""
    parquet = read_parquet()
    columns = ["probabilities", *(spec.name for spec in manifest.answer.gates)]
    for part in sorted(folder.glob("part-*.parquet")):
        with parquet.ParquetFile(part) as opened:
            for batch in opened.iter_batches(CHUNK, columns=["file", "class_id", *columns]):
                good = batch.filter(batch["class_id"].is_valid())
                parts = [good[name].flatten().to_numpy().reshape(len(good), -1) for name in columns]
                values = np.concatenate(parts, axis=1) if len(good) else ()
                yield from zip(map(Path, good["file"].to_pylist()), values, strict=True)


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    some: list[Row] = []
    for row in rows:
        some.append(row)
        if len(some) == CHUNK:
            yield some
            some = []
    if some:
        yield some


def _number(name: str, names: list[str]) -> int:
    if name not in names:
        names.append(name)
    return names.index(name)


def _widened(groups: Groups, names: Sequence[str]) -> Groups:
    """The same groups, and those that have come since."""
    more = len(names) - len(groups.names)
    if not more:
        return groups
    wide = Groups.empty(names, len(groups.squares))
    wide.counts[: len(groups.names)] = groups.counts
    wide.sums[: len(groups.names)] = groups.sums
    wide.squares, wide.low, wide.high = groups.squares, groups.low, groups.high
    return wide

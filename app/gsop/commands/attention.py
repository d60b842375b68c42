"""``gsop attention``: what the gates of many images have in common, and what tells them apart."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from rich.table import Table

from gsop.commands.local import answer_all, open_backend
from gsop.commands.predict import find_files
from gsop.commands.shards import IDENTITY_FILE, read_parquet
from gsop.errors import ConfigError, GSoPError
from gsop.gates import plates
from gsop.gates.groups import CLOSED, OPEN, Groups, strongest
from gsop.images import decode
from gsop.model.config import GateSpec
from gsop.reports import Page, Picture, Share
from gsop.settings import Settings
from gsop.store.catalog import resolve
from gsop.store.manifest import Manifest

By = Literal["class", "folder"]

CHUNK = 256
"""Images that are counted at once."""

STRONGEST = 48
"""Channels of a gate that a picture shows by group; a table lists the first of them."""

LISTED = 12
NAMED = 60
"""Channels that never open or close, of which a report names so many."""

Row = tuple[Path, npt.NDArray[np.float32]]
"""A file, and its answer."""


@dataclass
class Seen:
    """The gates of a set of images.

    Attributes:
        what: what the set is called.
        manifest: of the version that answered.
        groups: its gates by group.
        examples: of each group the first image, and its answer.
    """

    what: str
    manifest: Manifest
    groups: Groups
    examples: dict[int, Row] = field(default_factory=dict)


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
    read = _Reader(settings, by, progress)
    seen = read.see(folder, model)
    other = None
    if against is not None:
        is_folder = Path(against).is_dir()
        other = read.see(Path(against), model) if is_folder else read.again(folder, against)
    _print(seen, other)
    if output is not None:
        try:
            output.write_text(_report(settings, seen, other, scale), encoding="utf-8")
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
        return self._grouped(str(folder), manifest, _kept(folder, manifest))

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
        what = f"{folder}, {manifest.name}/{manifest.version}"
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


# ── what is told ─────────────────────────────────────────────────────────────────────────────────


def _split(seen: Seen, values: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Numbers ``(…, G)`` by gate, each ``(…, size)``."""
    parts = seen.manifest.answer.split_gates(values)
    return {spec.name: part.reshape(*values.shape[:-1], spec.size) for spec, part in parts}


def _say(console: Console, text: str) -> None:
    """A line, as it is."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _print(seen: Seen, other: Seen | None) -> None:
    console = Console()
    groups = seen.groups
    _say(console, f"{seen.what}: {groups.images} images")
    table = Table("gate", "mean", "never open", "never closed", "separate most", box=None)
    mean, closed, opened = (
        _split(seen, v) for v in (groups.mean, groups.never_open, groups.never_closed)
    )
    separation = _split(seen, groups.separation)
    for spec in seen.manifest.answer.gates:
        name = spec.name
        table.add_row(
            name,
            f"{mean[name].mean():.3f}",
            f"{closed[name].sum()} of {spec.size}",
            f"{opened[name].sum()} of {spec.size}",
            ", ".join(
                f"{place} ({separation[name][place]:.2f})"
                for place in strongest(separation[name], 5)
            ),
        )
    console.print(table)
    if other is not None:
        _print_difference(console, seen, other)


def _print_difference(console: Console, seen: Seen, other: Seen) -> None:
    table = Table("gate", "mean", "there", "differ most (in deviations)", box=None)
    for spec, ours, theirs, apart in _differences(seen, other):
        table.add_row(
            spec.name,
            f"{ours.mean():.3f}",
            f"{theirs.mean():.3f}",
            ", ".join(f"{place} ({apart[place]:+.2f})" for place in strongest(apart, 5)),
        )
    _say(console, f"against {other.what}: {other.groups.images} images")
    console.print(table)


def _differences(
    seen: Seen, other: Seen
) -> Iterator[tuple[GateSpec, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]]:
    """Of each gate that both have: the means, and how far apart they are.

    Raises:
        ConfigError: if they have no gates in common.
    """
    if seen.manifest.answer.gates != other.manifest.answer.gates:
        raise ConfigError(
            f"{seen.what} and {other.what} have other gates: only versions of one network for "
            "images of one size can be compared"
        )
    apart = _split(seen, seen.groups.difference(other.groups))
    ours, theirs = _split(seen, seen.groups.mean), _split(other, other.groups.mean)
    for spec in seen.manifest.answer.gates:
        yield spec, ours[spec.name], theirs[spec.name], apart[spec.name]


def _report(settings: Settings, seen: Seen, other: Seen | None, scale: plates.Scale) -> str:
    groups = seen.groups
    there = groups.present()
    low, high = plates.SCALES[scale]
    page = Page(f"Gates of {seen.what}")
    page.text(
        f"{groups.images} images. Colours run from {low:.3g} (dark) to {high:.3g} (light). "
        f"A gate never opens if no image brings it to {CLOSED}, and never closes if none brings it "
        f"below {OPEN}. Separation is the share of a gate's variance that lies between the groups."
    )
    page.table(
        ("group", "images"),
        ((groups.names[group], int(groups.counts[group])) for group in there),
        "the groups",
    )
    means, separation = _split(seen, groups.means), _split(seen, groups.separation)
    closed, opened = _split(seen, groups.never_open), _split(seen, groups.never_closed)
    for spec in seen.manifest.answer.gates:
        name = spec.name
        page.heading(name)
        _tell_groups(page, spec, seen, means[name][there], separation[name], scale)
        for what, which in (("open", closed[name]), ("close", opened[name])):
            page.text(f"Never {what}: {_places(np.flatnonzero(which).tolist())}.")
    if other is not None:
        _tell_difference(page, seen, other, scale)
    page.heading("One image of each group beside its gates")
    for group in there:
        _tell_example(page, settings, seen, group, scale)
    return page.render()


def _tell_groups(
    page: Page,
    spec: GateSpec,
    seen: Seen,
    means: npt.NDArray[Any],
    separation: npt.NDArray[Any],
    scale: plates.Scale,
) -> None:
    """The means of one gate in the groups that there are, ``(K, size)``."""
    names = [seen.groups.names[group] for group in seen.groups.present()]
    if spec.kind == "position":
        maps = means.reshape(-1, *spec.shape)
        page.pictures(
            *(
                Picture(plates.gate_plate(one, scale=scale, width=160), f"Mean in {name}.")
                for name, one in zip(names, maps, strict=True)
            )
        )
        return
    order = strongest(separation, STRONGEST)
    page.pictures(
        Picture(
            plates.png(plates.gate_colours(means[:, order], scale).repeat(2, axis=0), 960),
            f"Means by group ({', '.join(names)}, from above) of the {len(order)} channels that "
            "separate most, from the left.",
        ),
        Picture(
            plates.gate_plate(separation, width=640),
            f"Separation of all {spec.size} channels, row by row: light ones tell groups apart.",
        ),
    )
    page.table(
        ("channel", "separation", "least in", "mean there", "greatest in", "mean there"),
        (
            (
                place,
                Share(float(separation[place])),
                names[int(means[:, place].argmin())],
                Share(float(means[:, place].min())),
                names[int(means[:, place].argmax())],
                Share(float(means[:, place].max())),
            )
            for place in order[:LISTED]
        ),
        f"the channels of {spec.name} that separate most",
    )


def _tell_difference(page: Page, seen: Seen, other: Seen, scale: plates.Scale) -> None:
    page.heading(f"Against {other.what}")
    page.text(
        f"{other.groups.images} images. Differences are in standard deviations of the gate; red is "
        "higher there than here, blue lower, and full colour is two deviations."
    )
    for spec, ours, theirs, apart in _differences(seen, other):
        page.heading(spec.name, 3)
        here, there = ours.reshape(spec.shape), theirs.reshape(spec.shape)
        cells = np.nan_to_num(plates.in_rows(apart)) if spec.kind == "channel" else apart
        page.pictures(
            Picture(plates.gate_plate(here, scale=scale), "Mean here."),
            Picture(plates.gate_plate(there, scale=scale), "Mean there."),
            Picture(plates.matrix_plate(cells.reshape(_rows(spec, cells)) / 2), "Difference."),
        )
        page.table(
            ("channel" if spec.kind == "channel" else "place", "difference", "here", "there"),
            (
                (
                    place,
                    f"{apart[place]:+.2f}",
                    Share(float(ours[place])),
                    Share(float(theirs[place])),
                )
                for place in strongest(apart, LISTED)
            ),
            f"the greatest differences of {spec.name}",
        )


def _rows(spec: GateSpec, cells: npt.NDArray[Any]) -> tuple[int, ...]:
    return spec.shape if spec.kind == "position" else cells.shape


def _tell_example(
    page: Page, settings: Settings, seen: Seen, group: int, scale: plates.Scale
) -> None:
    file, values = seen.examples[group]
    page.heading(f"{seen.groups.names[group]}: {file.name}", 3)
    pictures = []
    try:
        data = file.read_bytes()
        pixels = decode(data, seen.manifest.input, max_pixels=settings.max_image_pixels)
    except (OSError, GSoPError) as error:
        page.text(f"The image cannot be shown: {error}")
        pixels = None
    if pixels is not None:
        pictures.append(Picture(plates.image_plate(pixels, 192), "As the network sees it."))
    for spec, gate in seen.manifest.answer.gates_of(values):
        pictures.append(Picture(plates.gate_plate(gate, scale=scale, width=256), spec.name))
        if spec.kind == "position" and pixels is not None:
            over = plates.laid_over(pixels, gate, scale=scale, width=192)
            pictures.append(Picture(over, f"{spec.name} laid over it."))
    page.pictures(*pictures)


def _places(places: Sequence[int]) -> str:
    if not places:
        return "none"
    more = f" and {len(places) - NAMED} more" if len(places) > NAMED else ""
    return f"{len(places)}: {', '.join(map(str, places[:NAMED]))}{more}"

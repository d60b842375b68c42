"""How ``gsop attention`` tells what it has seen: on the terminal, and as a report."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from gsop.errors import ConfigError, GSoPError
from gsop.gates import plates
from gsop.gates.groups import CLOSED, OPEN, Groups, strongest
from gsop.images import decode
from gsop.model.config import GateSpec
from gsop.reports import Page, Picture, Share
from gsop.settings import Settings
from gsop.store.manifest import Manifest

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


def _split(seen: Seen, values: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Numbers ``(…, G)`` by gate, each ``(…, size)``."""
    parts = seen.manifest.answer.split_gates(values)
    return {spec.name: part.reshape(*values.shape[:-1], spec.size) for spec, part in parts}


def _say(console: Console, text: str) -> None:
    """A line, as it is."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def show(seen: Seen, other: Seen | None) -> None:
    """Print what was seen, and how another set differs from it."""
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


def report(settings: Settings, seen: Seen, other: Seen | None, scale: plates.Scale) -> str:
    """The same as a page of HTML, with pictures on a scale of colours."""
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

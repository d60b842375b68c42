"""``gsop inspect``: what happens inside of a network for one image, as a report or as numbers."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from gsop.cpus import cpu_count
from gsop.errors import ConfigError
from gsop.images import Pixels, decode
from gsop.inspection.inspector import Inspector
from gsop.inspection.report import npz, report
from gsop.inspection.views import Inspection, Switched
from gsop.paths import check_file, printable
from gsop.settings import Settings
from gsop.store.catalog import resolve


def inspect(
    settings: Settings,
    image: Path,
    *,
    model: str | None,
    other: Path | None,
    gates: Sequence[str] | None,
    output: Path,
    progress: bool,
) -> int:
    """Inspect one image, and write what was found.

    Args:
        settings: the store; how large an image may be; threads.
        image: the file.
        model: ``name`` or ``name/version``; the first of the settings' if absent.
        other: a file of another image, whose gates are put in too.
        gates: names of those whose channels are switched one by one; all gates of channels if
            absent.
        output: ``.html`` for a report, ``.npz`` for the numbers.
        progress: whether to draw a progress bar.

    Raises:
        ConfigError: if a file cannot be read or written, or there is no such gate.
        InvalidImage: if an image cannot be decoded.
        StoreError: if the model cannot be loaded.
    """
    write = _WRITERS.get(output.suffix.lower())
    if write is None:
        raise ConfigError(f"{output}: name a file that ends in .html (a report) or .npz (numbers)")
    check_file(output)
    manifest = resolve(settings.model_store, model or settings.models[0])
    torch.set_num_threads(settings.torch_threads or cpu_count())
    inspector = Inspector.open(settings.model_store / manifest.name / manifest.version)

    def read(path: Path) -> Pixels:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
        return decode(data, manifest.input, max_pixels=settings.max_image_pixels)

    pixels, other_pixels = read(image), read(other) if other is not None else None
    found = Inspection(
        f"{manifest.name}/{manifest.version}",
        printable(image.name),
        printable(other.name) if other is not None else None,
        inspector.look(pixels),
        tuple(inspector.ablate(pixels, other_pixels)),
        _switch(inspector, pixels, gates, progress),
    )
    try:
        output.write_bytes(write(found))
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}") from error
    top = found.look.top_classes(1)[0]
    print(f"{image}: {top.label} ({top.probability:.4f}); wrote {output}")
    return 0


def _html(found: Inspection) -> bytes:
    return report(found).encode()


_WRITERS: dict[str, Callable[[Inspection], bytes]] = {".html": _html, ".npz": npz}


def _switch(
    inspector: Inspector, pixels: Pixels, gates: Sequence[str] | None, progress: bool
) -> tuple[Switched, ...]:
    if gates is None:
        gates = [spec.name for spec in inspector.layout.gates if spec.kind == "channel"]
    try:
        total = sum(inspector.channel_gate(name).size for name in gates)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    with Progress(console=Console(stderr=True), disable=not progress) as bar:
        task = bar.add_task("switching channels", total=total)
        return tuple(
            inspector.switch(pixels, name, report=lambda done: bar.advance(task, done))
            for name in gates
        )

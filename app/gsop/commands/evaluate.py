"""``gsop evaluate``: what a stored version is worth, through the way that serves."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from gsop.commands.local import Answered, answer_all, open_backend
from gsop.errors import ConfigError
from gsop.settings import Settings
from gsop.store.catalog import resolve
from gsop.store.manifest import Manifest
from gsop.train.data.dataset import Sample
from gsop.train.data.folder import FolderData, labelled_files
from gsop.train.data.listing import find_split
from gsop.train.data.open import open_data
from gsop.train.data.spec import AugmentSpec, DataSpec
from gsop.train.presets import PRESETS
from gsop.train.report import Report, make_report

WORST_SHOWN = 10
"""Classes that are printed; classes.csv has them all."""


def evaluate(
    settings: Settings,
    reference: str,
    *,
    data: Path | None,
    output: Path | None,
    progress: bool,
) -> int:
    """Answer labelled images as the service would, and report.

    Args:
        settings: the store, the device, the precision.
        reference: ``name`` or ``name/version``.
        data: a folder of a folder for each class, named as the model's labels; of a folder with
            ``val/`` that part, and of the folder that the model was trained on the held-out part.
            ``None`` takes the held-out images of the data that the model was trained on.
        output: folder for report.json, classes.csv, confusion.csv and confusion.png.
        progress: whether to draw a progress bar.

    Raises:
        SetupError: if the model or the images are not to be had.
    """
    manifest = resolve(settings.model_store, reference)
    samples, which = samples_of(manifest, data)
    backend = open_backend(settings, manifest)
    backend.warm_up()
    began = time.perf_counter()
    answers = list(
        track(
            answer_all(
                backend,
                range(len(samples)),
                lambda index: samples[index].image,
                max_pixels=settings.max_image_pixels,
            ),
            "evaluating",
            total=len(samples),
            console=Console(stderr=True),
            disable=not progress,
        )
    )
    seconds = time.perf_counter() - began
    report = _report(manifest, samples, answers, seconds)
    _print(report, manifest, which)
    if output is not None:
        report.write(output)
        print(f"wrote report.json, classes.csv, confusion.csv and confusion.png in {output}")
    return 0


def samples_of(manifest: Manifest, data: Path | None) -> tuple[Sequence[Sample], str]:
    """The images to answer, their labels being the model's, and what they are."""
    spec = trained_on(manifest)
    if data is None:
        if spec is None or spec.kind == "folder":
            raise ConfigError(
                "say with --data DIR which images to evaluate on: a folder of images for each class"
            )
        return open_data(spec, manifest.input, AugmentSpec()).held_out(), "held-out images"
    if (data / "val").is_dir():
        return _labelled(data / "val", manifest)
    if (split := find_split(data)) is not None:
        return _labelled(split.held_out, manifest)
    held_out = _held_out(manifest, spec, data)
    if held_out is not None:
        return held_out, f"images of {data} that were held out of its training"
    return _labelled(data, manifest)


def _labelled(folder: Path, manifest: Manifest) -> tuple[Sequence[Sample], str]:
    files = labelled_files(folder, manifest.class_id)
    beside = f" (passed over: {files.passed_over})" if files.passed_over else ""
    return files, f"images of {folder}{beside}"


def trained_on(manifest: Manifest) -> DataSpec | None:
    """The data that a version was trained on, if that is known."""
    values: Any = manifest.provenance.get("values")
    if isinstance(values, dict):
        return DataSpec.model_validate(values["data"])
    preset = PRESETS.get(str(manifest.provenance.get("recipe")))  # before values were written
    return preset.data if preset is not None else None


def _held_out(manifest: Manifest, spec: DataSpec | None, folder: Path) -> Sequence[Sample] | None:
    """The part of ``folder`` that training never saw, if the model was trained on that folder."""
    if spec is None or spec.kind != "folder":
        return None
    data = FolderData(spec.model_copy(update={"path": folder}), manifest.input, AugmentSpec())
    trained_on: Any = manifest.provenance.get("data")
    same = isinstance(trained_on, dict) and trained_on.get("fingerprint") == data.fingerprint
    return data.held_out() if same else None


def _report(
    manifest: Manifest, samples: Sequence[Sample], answers: Sequence[Answered[int]], seconds: float
) -> Report:
    good = [answer for answer in answers if answer.values is not None]
    if not good:
        raise ConfigError("none of the images can be read")
    layout = manifest.answer
    return make_report(
        manifest.labels,
        layout.probabilities(np.stack([a.values for a in good if a.values is not None])),
        np.array([samples[a.source].label for a in good], np.int64),
        broken=tuple(samples[a.source].name for a in answers if a.values is None),
        seconds=seconds,
    )


def _print(report: Report, manifest: Manifest, which: str) -> None:
    console = Console()
    table = Table(box=None, show_header=False)
    for name, value in (
        ("model", f"{manifest.name}/{manifest.version}"),
        ("images", f"{report.samples} {which}"),
        ("top-1", f"{report.top1:.2%}"),
        ("top-5", f"{report.top5:.2%}"),
        ("calibration error", f"{report.calibration_error:.2%}"),
        ("images a second", f"{report.images_per_second:.0f}"),
    ):
        table.add_row(name, value)
    console.print(table)
    classes = sorted(report.per_class.items(), key=lambda item: item[1][0] / item[1][1])
    worst = Table("class", "right", "of", box=None, title=f"the {WORST_SHOWN} worst classes")
    for label, (right, images) in classes[:WORST_SHOWN]:
        worst.add_row(label, f"{right / images:.1%}", str(images))
    console.print(worst)
    for name in report.broken:
        console.print(f"cannot be read: {name}", markup=False, highlight=False)

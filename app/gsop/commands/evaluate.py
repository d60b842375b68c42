"""``gsop evaluate``: what a stored version is worth, through the way that serves."""

import hashlib
import platform
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

import gsop
from gsop.backends.base import Backend
from gsop.commands.local import answer_all, open_backend
from gsop.cpus import cpu_count
from gsop.errors import ConfigError, RequestError
from gsop.images import InputSpec, Pixels, decode
from gsop.paths import printable
from gsop.settings import Settings
from gsop.store.catalog import resolve
from gsop.store.manifest import Manifest
from gsop.train.data.dataset import Sample
from gsop.train.data.folder import FolderData, labelled_files
from gsop.train.data.listing import find_split
from gsop.train.data.open import open_data
from gsop.train.data.some import Some
from gsop.train.data.spec import AugmentSpec, DataSpec
from gsop.train.presets import PRESETS
from gsop.train.report.alike import thumbnails
from gsop.train.report.answers import Answers, RowsFormat
from gsop.train.report.findings import Findings, Others
from gsop.train.report.rates import Paired
from gsop.train.report.written import check_report, write_report

Part = Literal["held-out", "training"]

WORST_SHOWN = 10
"""Classes that are printed; classes.csv has them all."""

DECODED_AT_A_TIME = 256


def evaluate(
    settings: Settings,
    reference: str,
    *,
    data: Path | None,
    part: Part,
    against: str | None,
    output: Path | None,
    rows: RowsFormat,
    progress: bool,
) -> int:
    """Answer labelled images as the service would, and report.

    Args:
        settings: the store, the device, the precision.
        reference: ``name`` or ``name/version``.
        data: a folder of a folder for each class, named as the model's labels; of a folder with
            ``val/`` that part, and of the folder that the model was trained on the held-out part.
            ``None`` takes the held-out images of the data that the model was trained on.
        part: or the part that it was trained on instead, to look for labels in doubt.
        against: another version, to be compared with on the same images.
        output: folder for the report's files.
        rows: the form of the file with a row an image.
        progress: whether to draw a progress bar.

    Raises:
        SetupError: if the model or the images are not to be had.
    """
    if output is not None:
        check_report(output, rows)
    started = datetime.now(UTC).replace(microsecond=0)
    manifest = resolve(settings.model_store, reference)
    other = None if against is None else resolve(settings.model_store, against)
    if other is not None and other.labels != manifest.labels:
        raise ConfigError(f"{against} has other labels than {reference}: they cannot be compared")
    samples, which = samples_of(manifest, data, part)
    look = _Look(samples, manifest.input, settings.max_image_pixels)
    backend = open_backend(settings, manifest)
    began = time.perf_counter()
    values = _answer(backend, look, progress=progress)
    seconds = time.perf_counter() - began
    answers = _answers(manifest, look, values)
    beside = None
    if other is not None:
        theirs = _answer(open_backend(settings, other), look, progress=progress)
        again = _answers(other, look, theirs)
        if again.names != answers.names:
            raise ConfigError("the images have changed while they were looked at")
        beside = f"{other.name}/{other.version}", Paired.of(answers.right, again.right)
    found = Findings(
        answers,
        broken=tuple(look.name(n) for n, value in enumerate(values) if value is None),
        about={
            "images_per_second": round(len(answers) / seconds, 1),
            "model": _version(manifest),
            "data": {"which": which, "sha256": look.digest},
            "made": {
                "gsop": gsop.__version__,
                "python": platform.python_version(),
                "device": backend.device,
                "precision": backend.precision,
                "started": started.isoformat(),
                "seconds": round(seconds, 3),
                "command": printable(shlex.join(["gsop", *sys.argv[1:]])),
            },
        },
        beside=beside,
        little=None if output is None else thumbnails(look(name) for name in answers.names),
        trained_on=None if output is None else _trained_on(manifest, data, part, look),
    )
    _print(found, manifest, which)
    if output is not None:
        files = write_report(found, output, layout=manifest.answer, look=look, rows=rows)
        print(f"wrote {', '.join(files)} in {output}")
    return 0


class _Look:
    """The images of the evaluation, each found again by its number or its name.

    Each is named when it is read: it may be a file.
    """

    def __init__(self, samples: Sequence[Sample], spec: InputSpec, max_pixels: int) -> None:
        self._samples = samples
        self._spec = spec
        self.max_pixels = max_pixels
        self._numbers: dict[str, int] = {}
        self._noted: dict[int, tuple[str, int, bytes]] = {}
        self._others: dict[str, tuple[Sequence[Sample], int]] = {}

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, number: int) -> bytes:
        """The encoded image."""
        sample = self._samples[number]
        name = sample.name or f"image {number}"
        self._noted[number] = name, sample.label, hashlib.sha256(sample.image).digest()
        self._numbers[name] = number
        return sample.image

    def name(self, number: int) -> str:
        """Of an image that was read."""
        return self._noted[number][0]

    def label(self, number: int) -> int:
        """Likewise."""
        return self._noted[number][1]

    @property
    def digest(self) -> str:
        """SHA-256 over the names, classes and contents of all images, in their order."""
        whole = hashlib.sha256()
        for _, (name, label, content) in sorted(self._noted.items()):
            whole.update(f"{name}\0{label}\0".encode() + content)
        return whole.hexdigest()

    def __call__(self, name: str) -> Pixels | None:
        """The pixels, as the network sees them; of the others too, by the names they got."""
        others = self._others.get(name)
        samples, number = (self._samples, self._numbers[name]) if others is None else others
        return decoded(samples[number], self._spec, self.max_pixels)

    def others(self, samples: Sequence[Sample], above: str) -> Others:
        """Other images as these are looked at, their names below ``above``."""

        def load(number: int) -> tuple[str, int, Pixels | None]:
            sample = samples[number]
            name = f"{above}{sample.name}"
            self._others[name] = samples, number
            return name, sample.label, decoded(sample, self._spec, self.max_pixels)

        def load_all() -> Iterator[tuple[str, int, Pixels | None]]:
            with ThreadPoolExecutor(cpu_count()) as threads:
                for start in range(0, len(samples), DECODED_AT_A_TIME):
                    end = min(start + DECODED_AT_A_TIME, len(samples))
                    yield from threads.map(load, range(start, end))

        return Others.of(load_all())


def decoded(sample: Sample, spec: InputSpec, max_pixels: int) -> Pixels | None:
    """The pixels of a sample as the network sees them; ``None`` if it cannot be read."""
    try:
        return decode(sample.image, spec, max_pixels=max_pixels)
    except RequestError:
        return None


def samples_of(
    manifest: Manifest, data: Path | None, part: Part = "held-out"
) -> tuple[Sequence[Sample], str]:
    """The images to answer, their labels being the model's, and what they are."""
    if part == "training":
        samples = _training_part(manifest, data)
        if samples is None:
            raise ConfigError(
                "the images of the training are not at hand: say with --data DIR which folder "
                f"{manifest.name}/{manifest.version} was trained on"
            )
        return samples, "images of the training"
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


def _training_part(manifest: Manifest, folder: Path | None) -> Sequence[Sample] | None:
    """The images of ``folder`` that the model was trained on, if that is known."""
    if folder is None:
        return None
    if (folder / "train").is_dir():
        return labelled_files(folder / "train", manifest.class_id)
    if (split := find_split(folder)) is not None:
        return labelled_files(split.train, manifest.class_id)
    held_out = _held_out(manifest, trained_on(manifest), folder)
    if held_out is None:
        return None
    out = {held_out[n].name for n in range(len(held_out))}
    everything = labelled_files(folder, manifest.class_id)
    return Some(everything, [n for n in range(len(everything)) if everything[n].name not in out])


def _trained_on(manifest: Manifest, data: Path | None, part: Part, look: _Look) -> Others | None:
    samples = None if part == "training" else _training_part(manifest, data)
    return None if samples is None else look.others(samples, "train/")


def _answer(
    backend: Backend[Any], look: _Look, *, progress: bool
) -> list[np.ndarray[Any, np.dtype[np.float32]] | None]:
    """The answer to each image; ``None`` for one that cannot be read."""
    backend.warm_up()
    answers = track(
        answer_all(backend, range(len(look)), look.read, max_pixels=look.max_pixels),
        "evaluating",
        total=len(look),
        console=Console(stderr=True),
        disable=not progress,
    )
    return [answer.values for answer in answers]


def _answers(
    manifest: Manifest, look: _Look, values: Sequence[np.ndarray[Any, np.dtype[np.float32]] | None]
) -> Answers:
    good = [(n, value) for n, value in enumerate(values) if value is not None]
    if not good:
        raise ConfigError("none of the images can be read")
    layout = manifest.answer
    whole = np.stack([value for _, value in good])
    return Answers(
        labels=manifest.labels,
        names=tuple(look.name(n) for n, _ in good),
        truth=np.array([look.label(n) for n, _ in good], np.int64),
        probabilities=np.asarray(layout.probabilities(whole), np.float32),
        gates=np.asarray(layout.gate_values(whole), np.float32),
    )


def _version(manifest: Manifest) -> dict[str, Any]:
    return {
        "name": manifest.name,
        "version": manifest.version,
        "sha256": manifest.sha256,
        "temperature": manifest.temperature,
    }


def _print(found: Findings, manifest: Manifest, which: str) -> None:
    console, figures = Console(), found.figures
    table = Table(box=None, show_header=False)
    for name, value in (
        ("model", f"{manifest.name}/{manifest.version}"),
        ("images", f"{len(found.answers)} {which}"),
        ("top-1", str(figures.top1)),
        *figures.told_top5(),
        ("loss", f"{figures.loss:.4f}"),
        ("calibration error", f"{figures.calibration_error:.2%}"),
        ("labels in doubt", str(len(found.suspects))),
        ("images a second", f"{found.about['images_per_second']:.0f}"),
    ):
        table.add_row(name, value)
    if found.beside is not None:
        name, pairs = found.beside
        low, high = pairs.interval
        chance = "more than chance" if pairs.is_more_than_chance else "no more than chance may make"
        table.add_row(
            f"beside {name}",
            f"{pairs.difference:+.2%} ({low:+.1%} to {high:+.1%}), p = {pairs.p_value:.3g}: "
            f"{chance}",
        )
    if found.trained_on is not None:
        table.add_row("like one of the training", str(len({twins.first for twins in found.leaks})))
    if found.little is not None:
        table.add_row("pairs that look alike", str(len(found.duplicates)))
    console.print(table)
    worst = Table("class", "right", "of", "F1", box=None, title=f"the {WORST_SHOWN} worst classes")
    for one in sorted(figures.classes, key=lambda c: c.recall.share)[:WORST_SHOWN]:
        worst.add_row(one.label, f"{one.recall.share:.1%}", str(one.recall.of), f"{one.f1:.3f}")
    console.print(worst)
    for pair in figures.pairs[:3]:
        console.print(
            f"{pair.images} of {pair.of} {pair.truth} taken for {pair.predicted}",
            markup=False,
            highlight=False,
        )
    for name in found.broken:
        console.print(f"cannot be read: {name}", markup=False, highlight=False)

"""``gsop predict``: classify files without a server."""

import csv
import glob
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
import numpy.typing as npt
import orjson
import torch
from rich.console import Console
from rich.progress import track

from app.engine.answers import ClassScore, gates_of, top_classes
from app.engine.predictor import DEFAULT_MAX_BATCH, Predictor, find_device, find_dtype
from app.errors import ConfigError, GSoPError, InvalidImage
from app.images import decode
from app.settings import Settings, cpu_count
from app.store.catalog import resolve
from app.store.manifest import Manifest
from app.store.store import load

Format = Literal["jsonl", "csv"]
SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"))

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class FileAnswer:
    """What became of one file.

    Attributes:
        file: as it was named or found.
        values: ``(classes + G,)``: probabilities, then gates; ``None`` if it failed.
        error: why it failed.
    """

    file: Path
    values: npt.NDArray[np.float32] | None
    error: GSoPError | None


def predict(
    settings: Settings,
    patterns: Sequence[str],
    *,
    model: str,
    top_k: int,
    form: Format,
    output: TextIO,
    attention: Path | None,
    progress: bool,
) -> int:
    """Classify every file that ``patterns`` name; the exit status is 1 if one failed.

    Raises:
        ConfigError: if the patterns name no file.
        StoreError: if the model cannot be loaded.
    """
    files = find_files(patterns)
    manifest = resolve(settings.model_store, model)
    predictor = _load(settings, manifest)
    write = _WRITERS[form](output, manifest, top_k)
    answers = _answer(predictor, files, settings.max_image_pixels)
    kept: list[FileAnswer] = []
    failures = 0
    for answer in track(
        answers,
        "predicting",
        total=len(files),
        console=Console(stderr=True),
        disable=not progress,
    ):
        write(answer)
        failures += answer.error is not None
        if attention is not None and answer.values is not None:
            kept.append(answer)
    if attention is not None:
        _save_gates(attention, manifest, kept)
    return 1 if failures else 0


def find_files(patterns: Sequence[str]) -> list[Path]:
    """The files that patterns mean: files themselves, images below folders, and globs.

    Raises:
        ConfigError: if a pattern means none.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            some = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        elif path.exists():
            some = [path]
        else:
            # The pattern is a shell's, absolute or not; Path.glob takes relative ones only.
            names = glob.glob(pattern, recursive=True)  # noqa: PTH207
            some = [Path(name) for name in sorted(names)]
        if not some:
            raise ConfigError(
                f"{pattern} names no image: give files, folders or globs of "
                f"{', '.join(sorted(SUFFIXES))}"
            )
        found |= dict.fromkeys(some)
    return list(found)


def _load(settings: Settings, manifest: Manifest) -> Predictor:
    device = find_device(settings.devices[0])
    torch.set_num_threads(settings.torch_threads or cpu_count())
    _, network = load(settings.model_store / manifest.name / manifest.version)
    return Predictor(
        manifest,
        network,
        device=device,
        dtype=find_dtype(settings.precision, device),
        max_batch=settings.max_batch or DEFAULT_MAX_BATCH[device.type],
    )


def _answer(predictor: Predictor, files: Sequence[Path], max_pixels: int) -> Iterator[FileAnswer]:
    """Answers in the order of ``files``; the next batch is decoded while one is computed."""
    spec = predictor.manifest.input

    def read(file: Path) -> Pixels | GSoPError:
        try:
            return decode(file.read_bytes(), spec, max_pixels=max_pixels)
        except OSError as error:
            return InvalidImage(f"the file cannot be read: {error.strerror}")
        except GSoPError as error:
            return error

    size = predictor.max_batch
    batches = [files[at : at + size] for at in range(0, len(files), size)]
    with ThreadPoolExecutor(cpu_count()) as pool:
        ahead = [pool.submit(read, file) for file in batches[0]]
        for batch, following in zip(batches, [*batches[1:], ()], strict=True):
            decoded, ahead = (
                [future.result() for future in ahead],
                [pool.submit(read, file) for file in following],
            )
            yield from _answer_batch(predictor, batch, decoded)


def _answer_batch(
    predictor: Predictor, files: Sequence[Path], decoded: Sequence[Pixels | GSoPError]
) -> Iterator[FileAnswer]:
    images = [image for image in decoded if isinstance(image, np.ndarray)]
    values = iter(predictor.submit(images).result().copy() if images else ())
    for file, image in zip(files, decoded, strict=True):
        if isinstance(image, GSoPError):
            yield FileAnswer(file, None, image)
        else:
            yield FileAnswer(file, next(values), None)


def _save_gates(path: Path, manifest: Manifest, answers: Sequence[FileAnswer]) -> None:
    """One array a gate, ``(N, …)``, and the ``files`` that its rows belong to."""
    rows = [a.values for a in answers if a.values is not None]
    width = manifest.config.num_classes + manifest.gate_size
    values = np.stack(rows) if rows else np.zeros((0, width), np.float32)
    arrays: dict[str, Any] = {gate.name: part for gate, part in gates_of(manifest, values)}
    np.savez(path, files=np.array([str(a.file) for a in answers]), **arrays)


# ── forms of output ──────────────────────────────────────────────────────────────────────────────

Writer = Callable[[FileAnswer], None]


def _jsonl(output: TextIO, manifest: Manifest, top_k: int) -> Writer:
    def write(answer: FileAnswer) -> None:
        line: dict[str, Any] = {"file": str(answer.file)}
        if answer.values is None:
            line["error"] = {"code": _code(answer), "detail": str(answer.error)}
        else:
            line["predictions"] = top_classes(manifest, answer.values, top_k)
        output.write(orjson.dumps(line).decode() + "\n")

    return write


def _csv(output: TextIO, manifest: Manifest, top_k: int) -> Writer:
    rows = csv.writer(output)
    rows.writerow(("file", "rank", "class_id", "label", "probability", "error"))

    def write(answer: FileAnswer) -> None:
        if answer.values is None:
            rows.writerow((answer.file, "", "", "", "", _code(answer)))
            return
        scores: list[ClassScore] = top_classes(manifest, answer.values, top_k)
        for rank, score in enumerate(scores, start=1):
            rows.writerow((answer.file, rank, score.class_id, score.label, score.probability, ""))

    return write


def _code(answer: FileAnswer) -> str:
    return answer.error.code if answer.error is not None else ""


_WRITERS: dict[Format, Callable[[TextIO, Manifest, int], Writer]] = {
    "jsonl": _jsonl,
    "csv": _csv,
}

"""``gsop predict``: classify files without a server."""

import csv
import glob
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
import orjson
from rich.console import Console
from rich.progress import Progress, track

from gsop.commands.local import Answered, answer_all, open_backend
from gsop.commands.shards import Shards
from gsop.errors import ConfigError
from gsop.images import SUFFIXES
from gsop.paths import check_file, check_folder, is_left_behind, printable
from gsop.settings import Settings
from gsop.store.catalog import resolve
from gsop.store.manifest import Manifest

Format = Literal["jsonl", "csv"]

FileAnswer = Answered[Path]
"""What became of one file."""


def predict(
    settings: Settings,
    patterns: Sequence[str],
    *,
    model: str | None,
    top_k: int,
    form: Format,
    output: Path | None,
    attention: Path | None,
    progress: bool,
) -> int:
    """Classify every file that ``patterns`` name; the exit status is 1 if one failed.

    Args:
        settings: the store, the device, the precision.
        patterns: files, folders and globs.
        model: ``name`` or ``name/version``; the first of the settings' if absent.
        top_k: predictions of a file to write.
        form: of what is written.
        output: file to write to; the standard output if absent.
        attention: where to write the gates to: a file that ends in ``.npz``, or else a folder that
            gets all of the answers, and of which this command goes on with what is missing.
        progress: whether to draw a progress bar.

    Raises:
        ConfigError: if the patterns name no file, or ``output`` cannot be written.
        StoreError: if the model cannot be loaded.
    """
    fills = attention is not None and attention.suffix.lower() != ".npz"  # a folder
    if attention is not None:
        (check_folder if fills else check_file)(attention)
    files = find_files(patterns)
    manifest = resolve(settings.model_store, model or settings.models[0])
    if attention is not None and fills:
        if output is not None:
            raise ConfigError(f"{attention} gets the predictions too: leave --output away")
        return _fill(settings, files, manifest, attention, progress=progress)
    backend = open_backend(settings, manifest)
    answers = track(
        answer_all(backend, files, Path.read_bytes, max_pixels=settings.max_image_pixels),
        "predicting",
        total=len(files),
        console=Console(stderr=True),
        disable=not progress,
    )
    kept: list[FileAnswer] = []
    failures = 0
    with _open(output) as file:
        write = _WRITERS[form](file, manifest, top_k)
        for answer in answers:
            write(answer)
            failures += answer.error is not None
            if attention is not None and answer.values is not None:
                kept.append(answer)
    if attention is not None:
        _save_gates(attention, manifest, kept)
    return 1 if failures else 0


def _fill(
    settings: Settings, files: Sequence[Path], manifest: Manifest, folder: Path, *, progress: bool
) -> int:
    """Answer the files whose answers a folder lacks, a part after the other."""
    shards = Shards(folder, manifest, files, settings.precision)
    parts = list(shards.missing())
    left = sum(len(some) for _, some in parts)
    if left < len(files):
        print(f"{len(files) - left} of {len(files)} files are answered already", file=sys.stderr)
    if not parts:
        return 0
    backend = open_backend(settings, manifest)
    failures = 0
    with Progress(console=Console(stderr=True), disable=not progress) as bar:
        task = bar.add_task("predicting", total=left)
        for number, some in parts:
            answers: list[FileAnswer] = []
            for answer in answer_all(
                backend, some, Path.read_bytes, max_pixels=settings.max_image_pixels
            ):
                answers.append(answer)
                failures += answer.error is not None
                bar.advance(task)
            shards.write(number, answers)
    print(f"{left} files answered, {failures} failed; they are in {folder}", file=sys.stderr)
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
            some = sorted(file for file in path.rglob("*") if _is_meant(file.relative_to(path)))
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


def _is_meant(path: Path) -> bool:
    """Whether it is named as an image, and nothing of it is hidden or a system's leftover."""
    return path.suffix.lower() in SUFFIXES and not any(map(is_left_behind, path.parts))


def _open(output: Path | None) -> AbstractContextManager[TextIO]:
    if output is None:
        return nullcontext(sys.stdout)
    try:
        return output.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}") from error


def _save_gates(path: Path, manifest: Manifest, answers: Sequence[FileAnswer]) -> None:
    """One array a gate, ``(N, …)``, and the ``files`` that its rows belong to."""
    rows = [a.values for a in answers if a.values is not None]
    layout = manifest.answer
    values = np.stack(rows) if rows else np.zeros((0, layout.width), np.float32)
    arrays: dict[str, Any] = {gate.name: part for gate, part in layout.gates_of(values)}
    try:
        np.savez(path, files=np.array([printable(a.source) for a in answers]), **arrays)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error


# ── forms of output ──────────────────────────────────────────────────────────────────────────────

Writer = Callable[[FileAnswer], None]


def _jsonl(output: TextIO, manifest: Manifest, top_k: int) -> Writer:
    def write(answer: FileAnswer) -> None:
        line: dict[str, Any] = {"file": printable(answer.source)}
        if answer.values is None:
            line["error"] = {"code": _code(answer), "detail": str(answer.error)}
        else:
            line["predictions"] = manifest.answer.top_classes(answer.values, top_k)
        output.write(orjson.dumps(line).decode() + "\n")

    return write


def _csv(output: TextIO, manifest: Manifest, top_k: int) -> Writer:
    rows = csv.writer(output)
    rows.writerow(("file", "rank", "class_id", "label", "probability", "error"))

    def write(answer: FileAnswer) -> None:
        if answer.values is None:
            rows.writerow((printable(answer.source), "", "", "", "", _code(answer)))
            return
        scores = manifest.answer.top_classes(answer.values, top_k)
        for rank, score in enumerate(scores, start=1):
            name = printable(answer.source)
            rows.writerow((name, rank, score.class_id, score.label, score.probability, ""))

    return write


def _code(answer: FileAnswer) -> str:
    return answer.error.code if answer.error is not None else ""


_WRITERS: dict[Format, Callable[[TextIO, Manifest, int], Writer]] = {
    "jsonl": _jsonl,
    "csv": _csv,
}

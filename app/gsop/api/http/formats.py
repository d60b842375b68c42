"""The forms of one earlier prediction and of the gates' statistics: media types to writers.

A new form is a row. The first is what is given where ``Accept`` likes several alike.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from anyio import CapacityLimiter, to_thread
from starlette.responses import Response

from gsop.api.http import rendering
from gsop.api.http.rendering import Compared
from gsop.gates.memory import Record
from gsop.gates.picture import draw_gates
from gsop.serving.engines import LoadedModel
from gsop.serving.gates import Statistics

_DRAWING = CapacityLimiter(1)
"""One slow form at a time: a picture takes tens of milliseconds, in which predictions must go
on."""


async def draw(picture: Callable[..., bytes], *arguments: Any) -> bytes:
    """Have something slow made, in a thread, when it is its turn."""
    return await to_thread.run_sync(picture, *arguments, limiter=_DRAWING)


@dataclass(frozen=True)
class Format:
    """One form.

    Attributes:
        write: makes the body of a record, and of what the reference says of it.
        is_slow: whether that takes long enough to be done in a thread.
        headers: of the answer.
    """

    write: Callable[[LoadedModel, Record, Compared], bytes]
    is_slow: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


def _json(model: LoadedModel, kept: Record, compared: Compared) -> bytes:
    return rendering.to_json(rendering.record(model, kept, compared))


def _picture(model: LoadedModel, kept: Record, compared: Compared) -> bytes:
    """The gates as a PNG."""
    manifest = model.manifest
    best = manifest.answer.top_classes(kept.values, 1)[0]
    title = f"{manifest.name}/{manifest.version}: {best.label} ({best.probability:.1%})"
    if compared.familiarity is not None:
        title += f", familiarity {compared.familiarity:.1%}"
    return draw_gates(list(manifest.answer.gates_of(kept.values)), title=title)


def _arrays(model: LoadedModel, kept: Record, compared: Compared) -> bytes:
    """npz: ``probabilities``, each gate under its name, and under ``NAME.z`` how far it is off."""
    layout = model.manifest.answer
    arrays = {spec.name: gate for spec, gate in layout.gates_of(kept.values)}
    if compared.residuals is not None:
        parts = layout.split_gates(compared.residuals)
        arrays |= {f"{spec.name}.z": part for spec, part in parts}
    probabilities = layout.probabilities(kept.values)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, probabilities=probabilities, **arrays)
    return file.getvalue()


RECORD_FORMATS: Mapping[str, Format] = {
    "application/json": Format(_json),
    "image/png": Format(_picture, is_slow=True),
    "application/x-npz": Format(
        _arrays, headers={"Content-Disposition": 'attachment; filename="gates.npz"'}
    ),
}


def _statistics_json(model: LoadedModel, seen: Statistics, stage: str | None) -> bytes:
    return rendering.to_json(rendering.statistics(model, seen, stage))


def _statistics_picture(model: LoadedModel, seen: Statistics, stage: str | None) -> bytes:
    """The gates' means as a PNG; all closed where nothing was seen."""
    manifest, samples = model.manifest, seen.gates.samples
    layout = manifest.answer
    means = seen.gates.mean if samples else np.zeros(layout.gate_size)
    gates = [
        (spec, part.astype(np.float32))
        for spec, part in layout.split_gates(means)
        if stage in (None, spec.stage)
    ]
    title = f"{manifest.name}/{manifest.version}: mean of {samples} predictions"
    return draw_gates(gates, title=title)


def _statistics_arrays(model: LoadedModel, seen: Statistics, stage: str | None) -> bytes:
    """npz: ``samples``, and each gate's four vectors under its name and theirs."""
    layout = model.manifest.answer
    arrays = {
        f"{spec.name}.{name}": part
        for name, vector in rendering.vectors(seen.gates).items()
        for spec, part in layout.split_gates(vector)
        if stage in (None, spec.stage)
    }
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, samples=np.array(seen.gates.samples), **arrays)
    return file.getvalue()


@dataclass(frozen=True)
class StatisticsFormat:
    """One form of the statistics; the members are those of :class:`Format`."""

    write: Callable[[LoadedModel, Statistics, str | None], bytes]
    is_slow: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


STATISTICS_FORMATS: Mapping[str, StatisticsFormat] = {
    "application/json": StatisticsFormat(_statistics_json),
    "image/png": StatisticsFormat(_statistics_picture, is_slow=True),
    "application/x-npz": StatisticsFormat(
        _statistics_arrays,
        headers={"Content-Disposition": 'attachment; filename="statistics.npz"'},
    ),
}


async def write_statistics(
    media_type: str, model: LoadedModel, seen: Statistics, stage: str | None
) -> Response:
    """The gates' statistics in one of :data:`STATISTICS_FORMATS`."""
    form = STATISTICS_FORMATS[media_type]
    if form.is_slow:
        body = await draw(form.write, model, seen, stage)
    else:
        body = form.write(model, seen, stage)
    return Response(body, media_type=media_type, headers=dict(form.headers))


async def write_record(
    media_type: str, model: LoadedModel, kept: Record, compared: Compared
) -> Response:
    """A record in one of :data:`RECORD_FORMATS`."""
    form = RECORD_FORMATS[media_type]
    if form.is_slow:
        body = await draw(form.write, model, kept, compared)
    else:
        body = form.write(model, kept, compared)
    return Response(body, media_type=media_type, headers=dict(form.headers))

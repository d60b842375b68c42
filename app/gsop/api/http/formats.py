"""The forms in which one earlier prediction is shown: a table, media type to writer.

A new form is a row. The first is what is given where ``Accept`` likes several alike.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from anyio import CapacityLimiter, to_thread
from starlette.responses import Response

from gsop.api.http import rendering
from gsop.gates.memory import Record
from gsop.gates.picture import draw_gates
from gsop.serving.engines import LoadedModel

_DRAWING = CapacityLimiter(1)
"""One slow form at a time: a picture takes tens of milliseconds, in which predictions must go
on."""


@dataclass(frozen=True)
class Format:
    """One form.

    Attributes:
        write: makes the body.
        is_slow: whether that takes long enough to be done in a thread.
        headers: of the answer.
    """

    write: Callable[[LoadedModel, Record], bytes]
    is_slow: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


def _json(model: LoadedModel, kept: Record) -> bytes:
    return rendering.to_json(rendering.record(model, kept))


def _picture(model: LoadedModel, kept: Record) -> bytes:
    """The gates as a PNG."""
    manifest = model.manifest
    best = manifest.answer.top_classes(kept.values, 1)[0]
    title = f"{manifest.name}/{manifest.version}: {best.label} ({best.probability:.1%})"
    return draw_gates(list(manifest.answer.gates_of(kept.values)), title=title)


def _arrays(model: LoadedModel, kept: Record) -> bytes:
    """npz: ``probabilities``, and each gate under its name."""
    layout = model.manifest.answer
    arrays = {spec.name: gate for spec, gate in layout.gates_of(kept.values)}
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


async def write_record(media_type: str, model: LoadedModel, kept: Record) -> Response:
    """A record in one of :data:`RECORD_FORMATS`."""
    form = RECORD_FORMATS[media_type]
    if form.is_slow:
        body = await to_thread.run_sync(form.write, model, kept, limiter=_DRAWING)
    else:
        body = form.write(model, kept)
    return Response(body, media_type=media_type, headers=dict(form.headers))

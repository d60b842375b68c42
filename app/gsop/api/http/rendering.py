"""Answers as JSON, straight from numpy: the shapes of ``schemas.py`` without their cost."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
from starlette.responses import Response

from gsop.gates.answers import ClassScore
from gsop.gates.memory import Record
from gsop.gates.statistics import GateStatistics
from gsop.model.config import GateSpec
from gsop.serving.classify import Classified
from gsop.serving.engines import LoadedModel
from gsop.serving.gates import Statistics

SUMMARY = ("mean", "std", "min", "max")


def to_json(content: Any) -> bytes:
    """JSON; numpy arrays are allowed anywhere."""
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def json_response(content: Any, headers: dict[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(to_json(content), media_type="application/json", headers=headers)


def prediction(
    answer: Classified,
    *,
    top_k: int,
    attention: bool,
    familiarity: float | None,
    total_seconds: float,
) -> dict[str, Any]:
    """The answer for one image (:class:`gsop.api.http.schemas.Prediction`)."""
    layout, values = answer.model.manifest.answer, answer.inference.values
    return {
        "id": answer.inference.id,
        "model": model_ref(answer.model),
        "role": answer.role,
        "predictions": _predictions(layout.top_classes(values, top_k)),
        "attention": _gates(layout.gates_of(values)) if attention else None,
        "familiarity": familiarity,
        "timing_ms": {
            "decode": _milliseconds(answer.decode_seconds),
            "queue": _milliseconds(answer.inference.queue_seconds),
            "inference": _milliseconds(answer.inference.inference_seconds),
            "total": _milliseconds(total_seconds),
        },
    }


def server_timing(timing_ms: dict[str, float]) -> str:
    """The Server-Timing header (W3C) of an answer."""
    return ", ".join(f"{stage};dur={duration}" for stage, duration in timing_ms.items())


def statistics(model: LoadedModel, seen: Statistics, stage: str | None) -> dict[str, Any]:
    """Live statistics of the gates (:class:`gsop.api.http.schemas.AttentionStatistics`)."""
    layout = model.manifest.answer
    parts = {
        name: {spec.name: part for spec, part in layout.split_gates(vector)}
        for name, vector in vectors(seen.gates).items()
    }
    return {
        "model": model_ref(model),
        "samples": seen.gates.samples,
        "since": moment(seen.since),
        "instances": seen.instances,
        "stages": [
            header(spec) | {name: parts.get(name, {}).get(spec.name) for name in SUMMARY}
            for spec in layout.gates
            if stage in (None, spec.stage)
        ],
        "recent": [
            {
                "id": entry.id,
                "time": moment(entry.time),
                "label": model.manifest.labels[entry.class_id],
                "probability": entry.probability,
            }
            for entry in seen.recent
        ],
    }


class Compared(NamedTuple):
    """An answer beside its version's reference.

    Attributes:
        familiarity: 0 to 1; ``None`` without a reference.
        residuals: ``(G,)``, see :meth:`gsop.serving.references.References.residuals`.
    """

    familiarity: float | None
    residuals: npt.NDArray[np.floating] | None


def record(model: LoadedModel, kept: Record, compared: Compared) -> dict[str, Any]:
    """One earlier prediction (:class:`gsop.api.http.schemas.AttentionRecord`)."""
    layout, residuals = model.manifest.answer, compared.residuals
    scores = {} if residuals is None else dict(layout.split_gates(residuals))
    return {
        "id": kept.id,
        "model": model_ref(model),
        "time": moment(kept.time),
        "predictions": _predictions(layout.top_classes(kept.values, kept.top_k)),
        "familiarity": compared.familiarity,
        "stages": [
            header(spec) | {"gate": np.ascontiguousarray(gate), "z": _contiguous(scores.get(spec))}
            for spec, gate in layout.gates_of(kept.values)
        ],
    }


def model_ref(model: LoadedModel) -> dict[str, str]:
    """A model's name and version."""
    return {"name": model.manifest.name, "version": model.manifest.version}


def moment(unix_seconds: float) -> str:
    """A time as RFC 3339 text in UTC, to the millisecond."""
    text = datetime.fromtimestamp(unix_seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def vectors(gates: GateStatistics) -> dict[str, npt.NDArray[np.float64]]:
    """By name: what :data:`SUMMARY` has; none before the first sample."""
    if not gates.samples:
        return {}
    return dict(zip(SUMMARY, (gates.mean, gates.std, gates.low, gates.high), strict=True))


def _predictions(scores: Iterable[ClassScore]) -> list[dict[str, Any]]:
    return [
        {"class_id": s.class_id, "label": s.label, "probability": s.probability} for s in scores
    ]


def _gates(
    gates: Iterable[tuple[GateSpec, npt.NDArray[np.floating]]],
) -> list[dict[str, Any]]:
    return [header(spec) | {"gate": np.ascontiguousarray(gate)} for spec, gate in gates]


def _contiguous(part: npt.NDArray[np.floating] | None) -> npt.NDArray[np.floating] | None:
    return None if part is None else np.ascontiguousarray(part)


def header(spec: GateSpec) -> dict[str, Any]:
    """Which gate it is."""
    return {"stage": spec.stage, "block": spec.block, "kind": spec.kind, "shape": spec.shape}


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)

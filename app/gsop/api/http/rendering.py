"""Answers as JSON, straight from numpy: the shapes of ``schemas.py`` without their cost."""

import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from starlette.responses import Response

from gsop.api.http.service import Answer
from gsop.gates.answers import ClassScore, gates_of, top_classes
from gsop.gates.memory import GateStatistics, Record, split_gates
from gsop.gates.picture import draw_gates
from gsop.model.config import GateSpec
from gsop.serving.client import LoadedModel, Statistics

NPZ = "application/x-npz"
SUMMARY = ("mean", "std", "min", "max")


def json_response(content: Any, headers: dict[str, str] | None = None) -> Response:
    """An answer in JSON; numpy arrays are allowed anywhere."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, media_type="application/json", headers=headers)


def prediction(
    answer: Answer, *, top_k: int, attention: bool, total_seconds: float
) -> dict[str, Any]:
    """The answer for one image (:class:`gsop.api.http.schemas.Prediction`)."""
    manifest, values = answer.model.manifest, answer.inference.values
    return {
        "id": answer.inference.id,
        "model": model_ref(answer.model),
        "predictions": _predictions(top_classes(manifest, values, top_k)),
        "attention": _gates(gates_of(manifest, values)) if attention else None,
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


def statistics(
    model: LoadedModel, seen: Statistics, gates: Sequence[GateSpec], stage: str | None
) -> dict[str, Any]:
    """Live statistics of ``gates`` (:class:`gsop.api.http.schemas.AttentionStatistics`)."""
    parts = {
        name: {spec.name: part for spec, part in split_gates(gates, vector)}
        for name, vector in _vectors(seen.gates).items()
    }
    return {
        "model": model_ref(model),
        "samples": seen.gates.samples,
        "since": moment(seen.since),
        "stages": [
            _header(spec) | {name: parts.get(name, {}).get(spec.name) for name in SUMMARY}
            for spec in gates
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


def record(model: LoadedModel, kept: Record) -> dict[str, Any]:
    """One earlier prediction (:class:`gsop.api.http.schemas.AttentionRecord`)."""
    return {
        "id": kept.id,
        "model": model_ref(model),
        "time": moment(kept.time),
        "predictions": _predictions(top_classes(model.manifest, kept.values, kept.top_k)),
        "stages": _gates(gates_of(model.manifest, kept.values)),
    }


def record_picture(model: LoadedModel, kept: Record) -> bytes:
    """One earlier prediction's gates as a PNG."""
    best = top_classes(model.manifest, kept.values, 1)[0]
    title = f"{model.manifest.name}/{model.manifest.version}: {best.label} ({best.probability:.1%})"
    return draw_gates(list(gates_of(model.manifest, kept.values)), title=title)


def record_arrays(model: LoadedModel, kept: Record) -> bytes:
    """One earlier prediction as npz: ``probabilities``, and each gate under its name."""
    arrays = {spec.name: gate for spec, gate in gates_of(model.manifest, kept.values)}
    classes = model.manifest.config.num_classes
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, probabilities=kept.values[:classes], **arrays)
    return file.getvalue()


def model_ref(model: LoadedModel) -> dict[str, str]:
    """A model's name and version."""
    return {"name": model.manifest.name, "version": model.manifest.version}


def moment(unix_seconds: float) -> str:
    """A time as RFC 3339 text in UTC, to the millisecond."""
    text = datetime.fromtimestamp(unix_seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _vectors(gates: GateStatistics) -> dict[str, npt.NDArray[np.float64]]:
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
    return [_header(spec) | {"gate": np.ascontiguousarray(gate)} for spec, gate in gates]


def _header(spec: GateSpec) -> dict[str, Any]:
    return {"stage": spec.stage, "block": spec.block, "kind": spec.kind, "shape": spec.shape}


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)

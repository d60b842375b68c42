"""How far a version has drifted, as JSON and as a picture."""

from typing import Any

import numpy as np

from gsop.api.http.rendering import header, model_ref, moment
from gsop.gates.answers import AnswerLayout
from gsop.gates.drift_query import DriftReport, ShownGates
from gsop.gates.picture import Scale, draw_gates
from gsop.serving.engines import LoadedModel

LARGEST = 20
"""Numbers of the gates that are listed."""

SCALE = Scale(2.0, "evidence over the limit: above 1 it is drift")

VECTORS = ShownGates._fields


def report(
    model: LoadedModel, seen: DriftReport, stage: str | None, *, classes: bool
) -> dict[str, Any]:
    """The report (:class:`gsop.api.http.drift_schemas.DriftReport`).

    Args:
        model: the version.
        seen: what an engine tells of it.
        stage: only this one.
        classes: whether the shares of the classes are told.
    """
    layout, window = model.manifest.answer, seen.window
    parts = {} if seen.gates is None else _parts(layout, seen.gates)
    return {
        "model": model_ref(model),
        "score": seen.score,
        "images": seen.images,
        "reference": _reference(seen),
        "learning": None
        if seen.learning is None
        else dict(zip(("images", "wanted"), seen.learning, strict=True)),
        "window": None
        if window is None
        else {
            "images": window.images,
            "began": moment(window.began),
            "ended": moment(window.ended),
            "repeats": window.repeats,
            "complete": window.is_full,
            "score": window.score,
        },
        "largest": [] if seen.gates is None else _largest(layout, seen.gates, stage),
        "stages": [
            header(spec) | {name: parts.get(name, {}).get(spec.name) for name in VECTORS}
            for spec in layout.gates
            if stage in (None, spec.stage)
        ],
        "classes": _classes(model, seen) if classes else None,
    }


def picture(model: LoadedModel, seen: DriftReport) -> bytes:
    """The evidence of each number of the gates, as a PNG."""
    layout, manifest = model.manifest.answer, model.manifest
    title = f"{manifest.name}/{manifest.version}: drift "
    title += "is not judged yet" if seen.score is None else f"{seen.score:.2f}"
    if seen.gates is None:
        evidence = np.zeros(layout.gate_size, np.float32)
    else:
        evidence = np.abs(seen.gates.evidence).astype(np.float32)
        assert seen.window is not None, "the gates are a window's"  # noqa: S101
        title += f", {seen.window.images} images"
    gates = [(spec, values.astype(np.float32)) for spec, values in layout.split_gates(evidence)]
    return draw_gates(gates, title=title, scale=SCALE)


def _reference(seen: DriftReport) -> dict[str, Any] | None:
    if seen.facts is None:
        return None
    return {
        "kind": "learned" if seen.is_learned else "published",
        "what": seen.facts.what,
        "images": seen.reference_images,
        "made": moment(seen.facts.made.timestamp()),
        "limit": seen.facts.limit,
        "digest": seen.digest,
    }


def _parts(layout: AnswerLayout, gates: ShownGates) -> dict[str, dict[str, Any]]:
    """By vector and gate: the part of each, in the gate's shape."""
    return {
        name: {spec.name: np.ascontiguousarray(part) for spec, part in layout.split_gates(vector)}
        for name, vector in zip(VECTORS, gates, strict=True)
    }


def _largest(layout: AnswerLayout, gates: ShownGates, stage: str | None) -> list[dict[str, Any]]:
    """The numbers with the most evidence, the most first."""
    numbers = np.arange(layout.gate_size, dtype=np.float64)
    parts = [
        (s, part.ravel()) for s, part in layout.split_gates(numbers) if stage in (None, s.stage)
    ]
    chosen = np.concatenate([numbers[:0], *(part for _, part in parts)]).astype(np.intp)
    order = np.argsort(-np.abs(gates.evidence[chosen]), kind="stable")[:LARGEST]
    ends = np.cumsum([spec.size for spec in layout.gates])
    found = []
    for number in chosen[order].tolist():
        index = int(np.searchsorted(ends, number, side="right"))
        spec = layout.gates[index]
        place = np.unravel_index(number - (ends[index] - spec.size), spec.shape)
        found.append(
            {
                "stage": spec.stage,
                "block": spec.block,
                "kind": spec.kind,
                "place": list(map(int, place)),
            }
            | {name: float(vector[number]) for name, vector in zip(VECTORS, gates, strict=True)}
        )
    return found


def _classes(model: LoadedModel, seen: DriftReport) -> list[dict[str, Any]] | None:
    if seen.reference_mix is None:
        return None
    live = [None] * len(seen.reference_mix) if seen.live_mix is None else seen.live_mix.tolist()
    return [
        {"class_id": i, "label": label, "reference": usual, "live": now}
        for i, (label, usual, now) in enumerate(
            zip(model.manifest.labels, seen.reference_mix.tolist(), live, strict=True)
        )
    ]

"""An inspection in the forms in which ``POST /inspect`` answers. No torch."""

from collections.abc import Callable
from typing import Any

import orjson

from gsop.inspection.protocol import FORMS
from gsop.inspection.report import npz, report
from gsop.inspection.views import Ablated, GateView, Inspection, Switched

STRONGEST = 20
"""Channels that JSON lists beside all effects."""


def write(inspection: Inspection, form: str, *, top_k: int, matrices: bool) -> bytes:
    """The body of an answer.

    Args:
        inspection: what was found.
        form: one of :data:`~gsop.inspection.protocol.FORMS`.
        top_k: classes to list, in JSON.
        matrices: whether JSON holds the matrices.
    """
    json, html, arrays = FORMS
    writers: dict[str, Callable[[], bytes]] = {
        json: lambda: _json(inspection, top_k, matrices=matrices),
        html: lambda: report(inspection).encode(),
        arrays: lambda: npz(inspection),
    }
    return writers[form]()


def _json(inspection: Inspection, top_k: int, *, matrices: bool) -> bytes:
    look = inspection.look
    name, _, version = inspection.model.partition("/")
    document = {
        "model": {"name": name, "version": version},
        "predictions": look.top_classes(top_k),
        "gates": [_gate(view, matrices=matrices) for view in look.gates],
        "ablations": [_ablated(ablated, inspection) for ablated in inspection.ablations],
        "channels": [_switched(switched) for switched in inspection.channels],
    }
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _gate(view: GateView, *, matrices: bool) -> dict[str, Any]:
    spec = view.spec
    return {
        "stage": spec.stage,
        "block": spec.block,
        "kind": spec.kind,
        "shape": spec.shape,
        "gate": view.gate,
        "logits": view.logits,
        "spectrum": view.spectrum,
        "effective_rank": view.effective_rank,
        "matrix": view.matrix if matrices else None,
    }


def _ablated(ablated: Ablated, inspection: Inspection) -> dict[str, Any]:
    look, probabilities = inspection.look, ablated.probabilities
    (winner,) = look.layout.top_classes(probabilities, 1)
    return {
        "stage": ablated.stage,
        "way": ablated.way,
        "prediction": winner,
        "probability": float(probabilities[look.class_id]),
        "logit": float(ablated.logits[look.class_id]),
    }


def _switched(switched: Switched) -> dict[str, Any]:
    return {
        "gate": switched.spec.name,
        "class_id": switched.class_id,
        "logit": switched.before[0],
        "probability": switched.before[1],
        "effects": switched.effects,
        "probabilities": switched.probabilities,
        "strongest": list(switched.strongest(STRONGEST)),
    }

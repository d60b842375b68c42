"""An inspection as one HTML file with its pictures, and as arrays. No torch."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np

from gsop.gates import plates
from gsop.inspection.views import WAYS, GateView, Inspection, Look, Switched
from gsop.reports import Cell, Page, Picture, Share

TOP_CLASSES = 5
STRONGEST = 12
"""Channels of a gate that a report lists."""

SPECTRUM_SHOWN = 64
"""Eigenvalues that a picture can show side by side."""


def report(inspection: Inspection) -> str:
    """The inspection as a page that opens anywhere."""
    look = inspection.look
    page = Page(f"{inspection.source}, seen by {inspection.model}")
    page.pictures(Picture(plates.image_plate(look.pixels), "The image as the network sees it."))
    page.table(("class", "probability"), _answer(look), "the answer")
    page.heading("What other gates would answer")
    page.text(
        "Each line is a whole forward pass in which the gates of a stage are replaced, in float64. "
        + "; ".join(f"{way}: {text}" for way, text in WAYS.items() if way in _ways(inspection))
        + "."
        + (f" The other image is {inspection.other}." if inspection.other else "")
    )
    label = look.layout.labels[look.class_id]
    page.table(
        ("stage", "gates", "answer", f"probability of {label}", "change"),
        _lost(inspection),
        "answers with other gates",
    )
    for switched in inspection.channels:
        _tell_channels(page, switched, label)
    page.heading("The gates, and what they are made of")
    for view in look.gates:
        _tell_gate(page, view, look)
    return page.render()


def _answer(look: Look) -> Iterator[tuple[Cell, ...]]:
    for score in look.top_classes(TOP_CLASSES):
        yield score.label, Share(score.probability)


def _ways(inspection: Inspection) -> set[str]:
    return {ablated.way for ablated in inspection.ablations}


def _lost(inspection: Inspection) -> Iterator[tuple[Cell, ...]]:
    look = inspection.look
    before = look.probabilities[look.class_id]
    yield "none", "as they are", look.layout.labels[look.class_id], Share(float(before)), ""
    for ablated in inspection.ablations:
        now = ablated.probabilities
        yield (
            ablated.stage,
            ablated.way,
            look.layout.labels[int(now.argmax())],
            Share(float(now[look.class_id])),
            f"{now[look.class_id] - before:+.4f}",
        )


def _tell_channels(page: Page, switched: Switched, label: str) -> None:
    to = "closed" if switched.to == 0 else f"set to {switched.to:g}"
    page.heading(f"{switched.spec.name}: the channels that matter most", 3)
    page.text(
        f"Each of the {switched.spec.size} channels is {to} alone. Effect: by how much the logit "
        f"of {label} is lower then; blue bars lift it, red ones press it down."
    )
    order = np.sort(switched.effects)[::-1]
    page.pictures(
        Picture(plates.bar_plate(order, 768), "The effects of all channels, from the greatest.")
    )
    changed = switched.winners != switched.class_id
    page.table(
        ("channel", "effect on the logit", f"probability of {label}", "changes the answer"),
        (
            (
                channel,
                f"{switched.effects[channel]:+.6f}",
                Share(float(switched.probabilities[channel])),
                "yes" if changed[channel] else "no",
            )
            for channel in switched.strongest(STRONGEST)
        ),
        f"the strongest channels of {switched.spec.name}",
    )


def _tell_gate(page: Page, view: GateView, look: Look) -> None:
    spec, gate = view.spec, view.gate
    page.heading(spec.name, 3)
    page.text(
        f"Mean {gate.mean():.3f}, from {gate.min():.3f} to {gate.max():.3f}; before the sigmoid "
        f"{view.logits.min():+.2f} to {view.logits.max():+.2f}."
        + (f" Effective rank {view.effective_rank:.1f}." if view.effective_rank else "")
    )
    pictures = [
        Picture(
            plates.gate_plate(gate, scale=scale),
            f"The gate, dark at {low:.3g}, light at {high:.3g}.",
        )
        for scale, (low, high) in plates.SCALES.items()
    ]
    if spec.kind == "position":
        over = plates.laid_over(look.pixels, gate)
        pictures.append(Picture(over, "The gate laid over the image: light where it lets through."))
    if view.features is not None:
        pictures.append(
            Picture(
                plates.feature_plate(view.features),
                f"The {len(view.features)} reduced features, each on a scale of its own.",
            )
        )
    if view.correlation is not None and view.spectrum is not None:
        pictures.append(
            Picture(
                plates.matrix_plate(view.correlation),
                f"Their {len(view.correlation)} × {len(view.correlation)} correlations: "
                "red 1, blue -1.",
            )
        )
        shown = view.spectrum[:SPECTRUM_SHOWN]
        pictures.append(
            Picture(
                plates.bar_plate(shown),
                f"The {len(shown)} greatest eigenvalues, from {shown[0]:.3g}.",
            )
        )
    page.pictures(*pictures)


def arrays(inspection: Inspection) -> dict[str, Any]:
    """All numbers by name, for :func:`numpy.savez`.

    ``probabilities``, ``logits``, ``labels``, ``pixels``; of each gate ``NAME.gate``,
    ``NAME.logits``, ``NAME.features``, ``NAME.matrix``, ``NAME.correlation``, ``NAME.spectrum``;
    ``ablation.STAGE.WAY`` (logits); ``channels.NAME.logits``, ``….probabilities``, ``….winners``.
    """
    look = inspection.look
    found: dict[str, Any] = {
        "model": np.array(inspection.model),
        "labels": np.array(look.layout.labels),
        "pixels": look.pixels,
        "logits": look.logits,
        "probabilities": look.probabilities,
    }
    for view in look.gates:
        for part in ("gate", "logits", "features", "matrix", "correlation", "spectrum"):
            found[f"{view.spec.name}.{part}"] = getattr(view, part)
    for ablated in inspection.ablations:
        found[f"ablation.{ablated.stage}.{ablated.way}"] = ablated.logits
    for switched in inspection.channels:
        for part in ("logits", "probabilities", "winners"):
            found[f"channels.{switched.spec.name}.{part}"] = getattr(switched, part)
    return {name: array for name, array in found.items() if array is not None}


def npz(inspection: Inspection) -> bytes:
    """All numbers as an npz file; :func:`arrays` tells their names."""
    stream = BytesIO()
    np.savez_compressed(stream, **arrays(inspection))
    return stream.getvalue()

"""``report.html``: what was found, in one file that opens anywhere."""

from collections.abc import Callable, Sequence

import numpy as np

from gsop.gates.answers import AnswerLayout
from gsop.html import Html, element, page, picture, section, side_by_side, table
from gsop.images import Pixels
from gsop.train.report.drawing import (
    as_png,
    draw_confusion,
    draw_coverage,
    draw_gate,
    draw_reliability,
)
from gsop.train.report.findings import Findings, Twins

WORST_SHOWN = 12
"""Images with the largest losses that are shown with their gates."""

LISTED = 50
"""Suspects, duplicates and leaks that are listed; report.json has them all."""

PICTURED = 8
"""Of those, the first that are shown."""

GATES_SHOWN = 8
"""Gates of an image that are shown, the last ones."""

Look = Callable[[str], Pixels | None]
"""The pixels of an image by its name, as the network sees them; ``None`` if it is gone."""


def report_page(found: Findings, layout: AnswerLayout, look: Look) -> str:
    """The page.

    Args:
        found: all there is to tell.
        layout: of the model's answers, to tell its gates apart.
        look: finds an image again.

    Raises:
        ConfigError: if matplotlib is not installed.
    """
    return page(
        f"{found.about.get('model', {}).get('name', 'model')}: what its answers are worth",
        _summary(found),
        _classes(found),
        _confusion(found),
        _calibration(found),
        _worst(found, layout, look),
        _suspects(found, look),
        _twins(
            "Images that look like one of the training",
            found.leaks if found.trained_on is not None else None,
            look,
            none="No image of the evaluation looks like one that the model was trained on.",
            unknown="The images of the training were not at hand, so nobody looked.",
            note="Such an image is no test: the model has seen it, or nearly. Take it out of one "
            "of the two.",
        ),
        _twins(
            "Images that look alike",
            found.duplicates,
            look,
            none="No two images of the evaluation look alike.",
            unknown="",
            note="They count twice. Where their labels differ, one of these is wrong.",
        ),
        _about(found),
    )


def _summary(found: Findings) -> Html:
    figures = found.figures
    rows: list[tuple[str, str]] = [
        ("images", f"{len(found.answers)}, and {len(found.broken)} that cannot be read"),
        ("top-1", str(figures.top1)),
        *figures.told_top5(),
        ("mean loss", f"{figures.loss:.4f}"),
        ("calibration error", f"{figures.calibration_error:.2%}"),
        ("labels in doubt", str(len(found.suspects))),
        ("pairs that look alike", str(len(found.duplicates))),
        (
            "like an image of the training",
            "not known" if found.trained_on is None else str(len({t.first for t in found.leaks})),
        ),
    ]
    parts = [table(("figure", "value"), rows, name="figures")]
    if found.beside is not None:
        name, pairs = found.beside
        low, high = pairs.interval
        verdict = "more than chance" if pairs.is_more_than_chance else "what chance alone may make"
        parts.append(
            element(
                "p",
                f"Beside {name}, on the same images: {pairs.difference:+.2%} ({low:+.1%} to "
                f"{high:+.1%}); {pairs.first} images are right here alone, {pairs.second} there "
                f"alone. That is ",
                element("strong", verdict),
                f" (McNemar's test, p = {pairs.p_value:.3g}).",
            )
        )
    return section("Figures", *parts, note="In brackets: intervals at 95 %.")


def _classes(found: Findings) -> Html:
    rows = [
        (
            c.label,
            str(c.recall.of),
            str(c.recall),
            str(c.precision),
            f"{c.f1:.3f} ({c.f1_interval[0]:.2f} to {c.f1_interval[1]:.2f})",
        )
        for c in sorted(found.figures.classes, key=lambda c: c.f1)
    ]
    head = ("class", "images", "recall", "precision", "F1")
    return section("Classes, the worst first", table(head, rows, name="classes", numbers=1))


def _confusion(found: Findings) -> Html:
    rows = [
        (pair.truth, pair.predicted, f"{pair.images} of {pair.of}") for pair in found.figures.pairs
    ]
    named: Html = (
        table(("class", "taken for", "images"), rows, name="most confused pairs", numbers=2)
        if rows
        else element("p", "Nothing is confused.")
    )
    drawn = picture(draw_confusion(found.figures), "the confusions, by class", width=620)
    return section("Confusions", side_by_side(drawn, named))


def _calibration(found: Findings) -> Html:
    return section(
        "Confidence",
        side_by_side(
            picture(
                draw_reliability(found.figures),
                "accuracy by confidence, beside the line on which both are equal",
                caption="Below the line the model is surer than it is right.",
            ),
            picture(
                draw_coverage(found.figures),
                "accuracy of the surest answers, by their share of all",
                caption="What is gained where unsure answers are left to somebody else.",
            ),
        ),
    )


def _worst(found: Findings, layout: AnswerLayout, look: Look) -> Html:
    cards = [_card(found, layout, look, n) for n in found.worst[:WORST_SHOWN]]
    return section(
        "Largest losses",
        side_by_side(*cards),
        note="Each with its last gates, a cell a channel or position, dark closes and light opens: "
        "above of the image, below on average of those images of its class that are right.",
    )


def _card(found: Findings, layout: AnswerLayout, look: Look, number: int) -> Html:
    answers = found.answers
    truth, predicted = (answers.labels[int(c[number])] for c in (answers.truth, answers.predicted))
    told = element(
        "p",
        element("strong", truth),
        f", taken for {predicted} with {answers.confidence[number]:.2f}",
        element("br"),
        f"loss {answers.loss[number]:.2f}, {answers.names[number]}",
    )
    shown = _shown(look, answers.names[number], 128)
    return element("div", shown, told, _gates(found, layout, number), class_="card")


def _gates(found: Findings, layout: AnswerLayout, number: int) -> Html:
    answers = found.answers
    like = answers.right & (answers.truth == answers.truth[number])
    rows = [("image", answers.gates[number])]
    if like.any():
        rows.append(("class", answers.gates[like].mean(axis=0)))
    tiles = []
    for what, values in rows:
        gates = list(layout.split_gates(values))[-GATES_SHOWN:]
        tiles.append(
            side_by_side(
                *(
                    picture(
                        draw_gate(spec, part),
                        f"{spec.name} of the {what}, mean {np.mean(part):.2f}",
                        caption=spec.stage,
                        width=56,
                        pixels=True,
                    )
                    for spec, part in gates
                )
            )
        )
    return element("div", *tiles)


def _suspects(found: Findings, look: Look) -> Html:
    if not found.suspects:
        return section("Labels in doubt", element("p", "None."))
    names, labels = found.answers.names, found.answers.labels
    rows = [
        (names[s.number], labels[s.given], labels[s.likely], f"{s.gap:.2f}")
        for s in found.suspects[:LISTED]
    ]
    shown = [
        element(
            "div",
            _shown(look, names[s.number], 96),
            element("p", f"{labels[s.given]}, or {labels[s.likely]}?"),
            class_="card",
        )
        for s in found.suspects[:PICTURED]
    ]
    head = ("file", "labelled", "rather", "by")
    return section(
        f"Labels in doubt: {len(found.suspects)}",
        side_by_side(*shown),
        table(head, rows, name="labels in doubt", numbers=3),
        note="The model is as sure of another class as it is of images of that class (confident "
        "learning). Some are the model's own mistakes: look at them before you change any.",
    )


def _twins(
    title: str, found: Sequence[Twins] | None, look: Look, *, none: str, unknown: str, note: str
) -> Html:
    if not found:
        return section(title, element("p", unknown if found is None else none))
    rows = [
        (t.first, t.second, "" if t.same_label else "labels differ", f"{t.correlation:.3f}")
        for t in found[:LISTED]
    ]
    shown = [
        element(
            "div",
            side_by_side(_shown(look, t.first, 96), _shown(look, t.second, 96)),
            class_="card",
        )
        for t in found[: PICTURED // 2]
    ]
    head = ("file", "and", "", "correlation")
    return section(
        f"{title}: {len(found)}",
        side_by_side(*shown),
        table(head, rows, name=title, numbers=3),
        note=note,
    )


def _shown(look: Look, name: str, width: int) -> Html:
    pixels = look(name)
    if pixels is None:
        return element("p", f"{name} is no longer there")
    return picture(as_png(pixels), name, width=width)


def _about(found: Findings) -> Html:
    rows = [
        (f"{group} {key}".strip(), str(value))
        for group, facts in found.about.items()
        for key, value in (facts.items() if isinstance(facts, dict) else [("", facts)])
    ]
    return section("How this was made", table(("what", "value"), rows, name="how it was made"))

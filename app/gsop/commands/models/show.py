"""``gsop models show``: one version, its network, its gates, and what they cost."""

import json
from collections.abc import Iterable
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gsop.commands.models.list import network_name
from gsop.model.cost import Cost, cost
from gsop.settings import Settings
from gsop.store.catalog import resolve
from gsop.store.manifest import Manifest

_LABELS_SHOWN = 4


def show(settings: Settings, reference: str) -> int:
    """Print all that the manifest of ``reference`` says, and the cost of one image.

    Args:
        settings: where the store is.
        reference: ``name`` for the newest version, or ``name/version``.

    Raises:
        StoreError: if there is no such version, or its manifest cannot be read.
    """
    manifest = resolve(settings.model_store, reference)
    spent = cost(manifest.config, manifest.input.height, manifest.input.width)
    sections = {
        f"{manifest.name}/{manifest.version}": _summary(settings, manifest),
        "network": asdict(manifest.config),
        "cost of one image": _costs(spent),
        "metrics": manifest.metrics,
        "provenance": manifest.provenance,
    }
    console = Console()
    for title, facts in sections.items():
        if facts:
            console.print(_table(title, facts.items()), "")
    gates = [(gate.name, " × ".join(map(str, gate.shape))) for gate in manifest.answer.gates]
    console.print(_table("gates", gates or [("none", "")]))
    return 0


def _summary(settings: Settings, manifest: Manifest) -> dict[str, object]:
    spec = manifest.input
    return {
        "what": network_name(manifest.config),
        "folder": settings.model_store / manifest.name / manifest.version,
        "created": f"{manifest.created:%Y-%m-%d %H:%M %Z}",
        "SHA-256": manifest.sha256,
        "input": f"{spec.height}×{spec.width}, cut from a short side of {spec.resize}, "
        f"{spec.interpolation}",
        "mean": ", ".join(map(str, spec.mean)),
        "std": ", ".join(map(str, spec.std)),
        "labels": _shortened(manifest.labels),
        "temperature": f"{manifest.temperature:g}",
    }


def _costs(spent: Cost) -> dict[str, object]:
    return {
        "parameters": f"{spent.parameters:,}, of them in gates {spent.gate_parameters:,} "
        f"({spent.gate_parameters / spent.parameters:.2%})",
        "multiply-adds": f"{spent.multiply_adds:,}, of them in gates {spent.gate_multiply_adds:,} "
        f"({spent.gate_share:.2%})",
    }


def _shortened(labels: tuple[str, ...]) -> str:
    if len(labels) <= _LABELS_SHOWN + 1:
        return ", ".join(labels)
    return f"{', '.join(labels[:_LABELS_SHOWN])}, … {labels[-1]} ({len(labels)})"


def _table(title: str, facts: Iterable[tuple[str, object]]) -> Table:
    """Names and values; long values are folded, never cut."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None)
    table.show_header = False
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        # Not a plain string: square brackets in a label or a path are no markup.
        table.add_row(Text(name), Text(_as_text(value)))
    return table


def _as_text(value: object) -> str:
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False)
    return str(value)

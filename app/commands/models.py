"""``gsop models``: what the store holds."""

from rich.console import Console
from rich.table import Table

from app.settings import Settings
from app.store.catalog import StoredVersion, list_versions


def list_models(settings: Settings) -> int:
    """Print a table of the store's versions; the exit status is 1 if one cannot be read."""
    stored = list_versions(settings.model_store)
    table = Table("model", "version", "network", "input", "classes", "top-1", "created", box=None)
    for version in stored:
        table.add_row(*_row(version))
    Console().print(table)
    for version in stored:
        if version.error is not None:
            Console(stderr=True).print(version.error, style="red", highlight=False)
    return 1 if any(version.error for version in stored) else 0


def _row(version: StoredVersion) -> tuple[str, ...]:
    manifest = version.manifest
    if manifest is None:
        return version.name, version.version, "[red]cannot be read[/red]"
    config, top1 = manifest.config, manifest.metrics.get("top1")
    return (
        version.name,
        version.version,
        f"GSoP-ResNet-{config.depth}, {config.attention}",
        f"{manifest.input.height}×{manifest.input.width}",
        str(config.num_classes),
        f"{top1:.2%}" if isinstance(top1, float) else "-",
        f"{manifest.created:%Y-%m-%d}",
    )

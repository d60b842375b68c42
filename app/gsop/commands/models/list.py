"""``gsop models list``: what the store holds."""

from rich.console import Console
from rich.table import Table

from gsop.model.config import GSoPResNetConfig
from gsop.settings import Settings
from gsop.store.catalog import StoredVersion, list_versions


def list_models(settings: Settings) -> int:
    """Print a table of the store's versions; the exit status is 1 if one cannot be read.

    Raises:
        StoreError: if there is no store.
    """
    stored = list_versions(settings.model_store)
    table = Table("model", "version", "network", "input", "classes", "top-1", "created", box=None)
    for version in stored:
        table.add_row(*_row(version))
    Console().print(table)
    unreadable = [version.error for version in stored if version.error is not None]
    for error in unreadable:
        Console(stderr=True).print(error, style="red", highlight=False, markup=False)
    return 1 if unreadable else 0


def network_name(config: GSoPResNetConfig) -> str:
    """The network in a few words: what tells one from another at a glance."""
    gates = "no gates" if config.gated_blocks == "none" else config.attention
    head = ", isqrt" if config.head == "isqrt" else ""
    return f"GSoP-ResNet-{config.depth}, {gates}{head}"


def _row(version: StoredVersion) -> tuple[str, ...]:
    manifest = version.manifest
    if manifest is None:
        return version.name, version.version, "[red]cannot be read[/red]"
    top1 = manifest.metrics.get("top1")
    return (
        version.name,
        version.version,
        network_name(manifest.config),
        f"{manifest.input.height}×{manifest.input.width}",
        str(manifest.config.num_classes),
        f"{top1:.2%}" if isinstance(top1, float) else "-",
        f"{manifest.created:%Y-%m-%d}",
    )

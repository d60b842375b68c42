"""``gsop models fetch``: bring versions from the remote store."""

from collections.abc import Sequence

from gsop.errors import ConfigError
from gsop.logs import configure
from gsop.serving.source import Source
from gsop.settings import Settings


def fetch_models(settings: Settings, references: Sequence[str]) -> int:
    """Fetch and verify; the exit status.

    Args:
        settings: where the stores are, the remote one and its copy.
        references: ``name`` for a model's newest version, or ``name/version``.

    Raises:
        SetupError: if one cannot be had.
    """
    if not settings.remote_store:
        raise ConfigError(
            "there is no remote store to fetch from: name it with --remote-store or "
            "GSOP_REMOTE_STORE"
        )
    configure("fetch", level=settings.log_level, form=settings.log_format)
    source = Source(settings)
    for reference in references:
        manifest = source.resolve(reference)
        print(f"{manifest.name}/{manifest.version} is in {settings.model_store}")
    return 0

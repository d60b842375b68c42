"""GSoP-ResNets: the networks, and a service that shows the attention gates inside them.

These names are the public face. Each is imported when it is asked for first, so ``import gsop``
waits neither for torch nor for anything else.
"""

from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gsop.model.config import GSoPResNetConfig
    from gsop.model.gsop import GSoP
    from gsop.model.resnet import GSoPResNet

__all__ = ["GSoP", "GSoPResNet", "GSoPResNetConfig", "__version__", "load"]

__version__ = "0.1.0"

_MODULES = {
    "GSoP": "gsop.model.gsop",
    "GSoPResNet": "gsop.model.resnet",
    "GSoPResNetConfig": "gsop.model.config",
}


def load(reference: str, store: str | PathLike[str] | None = None) -> "GSoPResNet":
    """A stored network, verified, on the CPU and in evaluation mode.

        logits, gates = gsop.load("digits")(images)

    ``images`` are (N, 3, H, W), R, G, B, prepared as the version's manifest says.

    Args:
        reference: ``name`` for the newest version of a model, or ``name/version``.
        store: folder of the model versions; that of the settings (``GSOP_MODEL_STORE``) if absent.

    Raises:
        gsop.errors.StoreError: if there is no such version, or it is not what its manifest says;
            the message names the remedy.
        gsop.errors.ConfigError: if the settings are wrong.
    """
    from gsop.settings import Settings
    from gsop.store.catalog import resolve
    from gsop.store.store import load as load_version

    root = Settings.load(model_store=store).model_store
    manifest = resolve(root, reference)
    _, network = load_version(root / manifest.name / manifest.version)
    return network


if not TYPE_CHECKING:  # which would take every name for one that is there

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

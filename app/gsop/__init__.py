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
    from gsop.notebook import Model

__all__ = ["GSoP", "GSoPResNet", "GSoPResNetConfig", "Model", "__version__", "load"]

__version__ = "0.1.0"

_MODULES = {
    "GSoP": "gsop.model.gsop",
    "GSoPResNet": "gsop.model.resnet",
    "GSoPResNetConfig": "gsop.model.config",
    "Model": "gsop.notebook",
}


def load(reference: str, store: str | PathLike[str] | None = None) -> "Model":
    """A stored network, verified, on the CPU and in evaluation mode.

        model = gsop.load("digits")
        model.predict("scans/*.png")    # files, arrays, Pillow's images: see gsop.notebook
        logits, gates = model(images)   # (N, 3, H, W), R, G, B, prepared as its manifest says

    Args:
        reference: ``name`` for the newest version of a model, or ``name/version``.
        store: folder of the model versions; that of the settings (``GSOP_MODEL_STORE``) if absent.

    Raises:
        gsop.errors.StoreError: if there is no such version, or it is not what its manifest says;
            the message names the remedy.
        gsop.errors.ConfigError: if the settings are wrong.
    """
    from gsop.notebook import Model
    from gsop.settings import Settings
    from gsop.store.catalog import resolve
    from gsop.store.store import load as load_version

    root = Settings.load(model_store=store).model_store
    manifest = resolve(root, reference)
    return Model.of(*load_version(root / manifest.name / manifest.version))


if not TYPE_CHECKING:  # which would take every name for one that is there

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

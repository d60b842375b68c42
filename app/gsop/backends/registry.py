"""Which backends there are, by name. Imports none of them.

A package of somebody else's adds its own by an entry point of the group ``gsop.backends``::

    [project.entry-points."gsop.backends"]
    tensorrt = "gsop_tensorrt:TensorRTBackend"
"""

from functools import reduce
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from gsop.backends.base import Backend
from gsop.errors import ConfigError

GROUP = "gsop.backends"

BUILT_IN = {
    "torch": "gsop.backends.torch_device:TorchBackend",
    "openvino": "gsop.backends.openvino:OpenVINOBackend",
    "null": "gsop.backends.null:NullBackend",
}


def reference_of(name: str) -> str:
    """``module:Class`` of the backend that ``GSOP_BACKEND`` names.

    Raises:
        ConfigError: if there is no backend of that name.
    """
    if ":" in name:
        return name
    installed = {entry.name: entry.value for entry in entry_points(group=GROUP)}
    try:
        return (installed | BUILT_IN)[name]
    except KeyError:
        known = ", ".join([*BUILT_IN, *sorted(installed.keys() - BUILT_IN.keys())])
        raise ConfigError(
            f"GSOP_BACKEND names {name!r}, and there is no such backend: use {known}, or "
            "module:Class of one that Python finds"
        ) from None


def module_of(name: str) -> str:
    """The module of that backend; raises as :func:`reference_of`."""
    return reference_of(name).partition(":")[0]


def find_backend(name: str) -> type[Backend[Any]]:
    """The class that ``GSOP_BACKEND`` names.

    Raises:
        ConfigError: if there is none, or a package that it needs is not installed.
    """
    module, _, attribute = reference_of(name).partition(":")
    try:
        found: Any = reduce(getattr, attribute.split("."), import_module(module))
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"GSOP_BACKEND names {name!r}, which cannot be imported ({error}): install what it "
            f"needs, or use {', '.join(BUILT_IN)} or module:Class of one that Python finds"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Backend)):
        raise ConfigError(f"GSOP_BACKEND names {name!r}, which is no subclass of Backend")
    return found

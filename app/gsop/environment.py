"""What single variables of the environment say to processes that are given no settings.

They are no fields of :class:`gsop.settings.Settings`: others define them (``torchrun``,
OpenTelemetry, trackers), or they are for what calls a service, not for the service.
"""

import os
from pathlib import Path
from typing import Literal, NamedTuple, get_args
from urllib.parse import urlsplit

from gsop.errors import ConfigError

CageMode = Literal["auto", "required", "off"]


def client_key() -> str | None:
    """The API key with which commands call a service; ``GSOP_CLIENT_KEY``."""
    return os.environ.get("GSOP_CLIENT_KEY") or None


def mlflow_experiment() -> str:
    """The experiment of MLflow's that a training belongs to; ``MLFLOW_EXPERIMENT_NAME``."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or "gsop"


def wandb_project() -> str:
    """The project of Weights & Biases that a training belongs to; ``WANDB_PROJECT``."""
    return os.environ.get("WANDB_PROJECT") or "gsop"


class TorchrunLayout(NamedTuple):
    """How ``torchrun`` spread a training: processes a machine, machines, this process's number."""

    processes: int
    machines: int
    rank: int


def torchrun_layout() -> TorchrunLayout | None:
    """What ``torchrun`` told this process by the environment; ``None`` if it did not start it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    processes = int(os.environ["LOCAL_WORLD_SIZE"])
    machines = int(os.environ["WORLD_SIZE"]) // processes
    return TorchrunLayout(processes, machines, int(os.environ["RANK"]))


def cage_mode() -> CageMode:
    """``GSOP_CAGE``, for processes that are given no settings.

    Raises:
        ConfigError: if it is none of its values.
    """
    mode = os.environ.get("GSOP_CAGE", "auto")
    for known in get_args(CageMode):
        if mode == known:
            return known  # type: ignore[no-any-return]  # get_args() tells no types
    raise ConfigError(f"GSOP_CAGE is {mode!r}: set it to one of {', '.join(get_args(CageMode))}")


class Collector(NamedTuple):
    """Where OpenTelemetry's spans go: the TCP port, and the certificates that it takes."""

    port: int
    certificates: tuple[Path, ...]


def collector() -> Collector | None:
    """The collector that ``OTEL_*`` names; ``None`` if no traces are wanted.

    Raises:
        ConfigError: if it names one that cannot be.
    """

    def told(name: str) -> str:
        variable = f"OTEL_EXPORTER_OTLP_{name}"
        return os.environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or os.environ.get(variable, "")

    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    endpoint = told("ENDPOINT")
    if off or os.environ.get("OTEL_TRACES_EXPORTER") == "none" or not endpoint:
        return None
    if told("PROTOCOL") not in ("", "http/protobuf"):
        raise ConfigError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {told('PROTOCOL')!r}: set it to http/protobuf, and "
            "OTEL_EXPORTER_OTLP_ENDPOINT to the collector's port for that, usually 4318"
        )
    try:
        url = urlsplit(endpoint)
        port = url.port or {"http": 80, "https": 443}[url.scheme]
    except (ValueError, KeyError):
        raise ConfigError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is no URL: set it to one such as http://127.0.0.1:4318"
        ) from None
    return Collector(port, tuple(Path(p) for p in (told("CERTIFICATE"),) if p))

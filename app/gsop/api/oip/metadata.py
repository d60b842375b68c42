"""What the Open Inference Protocol tells of the service and of its models, as plain data."""

from collections.abc import Iterable
from typing import Any

import gsop
from gsop.api.http.service import Service
from gsop.api.oip.outputs import OutputSpec, outputs_of
from gsop.api.oip.pixels import PIXELS
from gsop.api.oip.request import IMAGE
from gsop.errors import UnknownModel
from gsop.keys import Caller
from gsop.serving.choice import find_loaded
from gsop.serving.engines import LoadedModel
from gsop.store.catalog import StoredVersion

SERVER = "gsop"
EXTENSIONS = (
    *("binary_tensor_data", "classification", "parameters"),
    *("model_configuration", "statistics", "model_repository"),
)


def server() -> dict[str, Any]:
    """The service."""
    return {"name": SERVER, "version": gsop.__version__, "extensions": list(EXTENSIONS)}


def find(service: Service, name: str, version: str | None) -> LoadedModel:
    """The version that is asked about: the one that is named, or the model's stable one.

    Raises:
        UnknownModel: if it is not loaded.
    """
    if not name:
        raise UnknownModel("the request names no model")
    return find_loaded(service.generations, name, version or None)


def model(service: Service, found: LoadedModel, caller: Caller) -> dict[str, Any]:
    """A model, as a caller may see it (``ModelMetadataResponse``)."""
    manifest = found.manifest
    return {
        "name": manifest.name,
        "versions": [
            loaded.manifest.version
            for loaded in service.engines.models
            if loaded.manifest.name == manifest.name
        ],
        "platform": f"gsop_{service.settings.backend}",
        "inputs": [
            {"name": IMAGE, "datatype": "BYTES", "shape": [-1, 1]},
            {"name": PIXELS, "datatype": "UINT8", "shape": [-1, *_pixels_of(found)]},
        ],
        "outputs": [
            {"name": spec.name, "datatype": "FP32", "shape": [-1, *spec.shape]}
            for spec in outputs_of(manifest.answer, caller)
        ],
    }


def config(service: Service, found: LoadedModel, caller: Caller) -> dict[str, Any]:
    """How a model is served (Triton's ``ModelConfig``); shapes are those of one image."""
    return {
        "name": found.manifest.name,
        "platform": "",
        "backend": SERVER,
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": service.classifier.max_images,
        "input": [  # one of them comes
            {"name": IMAGE, "data_type": "TYPE_STRING", "dims": [1], "optional": True},
            {
                "name": PIXELS,
                "data_type": "TYPE_UINT8",
                "dims": _pixels_of(found),
                "optional": True,
            },
        ],
        "output": [_configured(spec) for spec in outputs_of(found.manifest.answer, caller)],
        "dynamic_batching": {},
    }


def _pixels_of(found: LoadedModel) -> list[int]:
    """The shape of one image's pixels."""
    return [3, found.manifest.input.height, found.manifest.input.width]


def _configured(spec: OutputSpec) -> dict[str, Any]:
    return {"name": spec.name, "data_type": "TYPE_FP32", "dims": list(spec.shape)}


def index(
    service: Service, stored: Iterable[StoredVersion], *, ready_only: bool
) -> list[dict[str, str]]:
    """The versions that the store holds or that are loaded (``RepositoryIndexResponse``)."""
    rows = [_row(service, version) for version in stored]
    return [row for row in rows if row["state"] == "READY" or not ready_only]


_STATES = {"loading": "LOADING", "warming": "LOADING", "draining": "UNLOADING"}


def _row(service: Service, version: StoredVersion) -> dict[str, str]:
    status = service.generations.status.find(version.name, version.version)
    state, reason = "UNAVAILABLE", ""
    if service.engines.find(version.name, version.version) is not None:
        state = "READY"
    elif version.error is not None:
        reason = "the manifest cannot be read"
    elif status is not None:
        state = _STATES.get(status.state, state)
        reason = "it failed to load" if status.state == "failed" else status.state
    return {"name": version.name, "version": version.version, "state": state, "reason": reason}

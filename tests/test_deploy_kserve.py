"""What KServe is given, read off the files: as KServe expects it, and as the service is."""

from typing import Any

import kubernetes_validate
import pytest
import yaml

from gsop.api.http.routes import V2_LIVE, V2_READY
from gsop.settings import Settings
from tests.test_deploy import DEPLOY, DOCKERFILE, KUBERNETES, USER

KSERVE = DEPLOY / "kserve"
OWN = {"PROTOCOL", "STORAGE_URI"}
"""Variables that KServe reads."""

GRACE_SECONDS = 30
"""That a pod has to end, where nothing else is said."""


def spec_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((KSERVE / name).read_text())["spec"]
    return found


def pods() -> dict[str, dict[str, Any]]:
    return {
        "runtime": spec_of("runtime.yaml"),
        "container": spec_of("container.yaml")["predictor"],
    }


@pytest.mark.parametrize("name", ["runtime", "container"])
def test_the_container_is_one_as_kserve_runs_it(name: str) -> None:
    pod = pods()[name]
    (container,) = pod["containers"]
    assert container["name"] == "kserve-container"
    given = {entry["name"]: entry["value"] for entry in container["env"]}
    assert given.keys() <= {f"GSOP_{field.upper()}" for field in Settings.model_fields} | OWN
    assert given["GSOP_MODEL_STORE"] == "/mnt/models"  # where KServe's init container copies to
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert str(ports["http1"]) == given["GSOP_PORT"]
    assert ports.get("grpc") == (int(given["GSOP_GRPC_PORT"]) if name == "runtime" else None)
    probes = {each: container[f"{each}Probe"]["httpGet"] for each in ("startup", "readiness")}
    for probe in probes.values():
        assert probe == {"path": V2_READY, "port": ports["http1"]}
    assert container["livenessProbe"]["httpGet"] == {"path": V2_LIVE, "port": ports["http1"]}
    drain = float(given["GSOP_DRAIN_DELAY_SECONDS"]) + float(given["GSOP_DRAIN_SECONDS"])
    assert pod.get("terminationGracePeriodSeconds", GRACE_SECONDS) >= drain + 5
    silent = container["readinessProbe"]["periodSeconds"] * 3
    assert float(given["GSOP_DRAIN_DELAY_SECONDS"]) > silent
    security = container["securityContext"]
    assert f"{security['runAsUser']}:{security['runAsGroup']}" == USER
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("name", ["runtime", "container"])
def test_the_pod_is_as_kubernetes_schema_says(name: str) -> None:
    parts = ("containers", "volumes", "terminationGracePeriodSeconds", "enableServiceLinks")
    pod = {part: value for part, value in pods()[name].items() if part in parts}
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "digits"}, "spec": pod}
    kubernetes_validate.validate(made, KUBERNETES, strict=True)


def test_the_service_is_one_of_the_runtime() -> None:
    runtime, model = spec_of("runtime.yaml"), spec_of("service.yaml")["predictor"]["model"]
    (form,) = runtime["supportedModelFormats"]
    assert model["modelFormat"] == {"name": form["name"], "version": form["version"]}
    assert model["protocolVersion"] in runtime["protocolVersions"]
    named = yaml.safe_load((KSERVE / "runtime.yaml").read_text())["metadata"]["name"]
    assert model["runtime"] == named


def test_the_image_speaks_grpc() -> None:
    installs = [rest for keyword, rest in DOCKERFILE if keyword == "RUN" and "-e " in rest]
    assert any("grpc" in rest.partition(".[")[2].partition("]")[0].split(",") for rest in installs)

"""What a container of the project may do, read off the files that start one.

That the service lives within it is tried in ``tests/test_confined.py``.
"""

import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.chroot_build import instructions
from gsop import __version__
from gsop.backends.gpus import NEEDED_DRIVERS
from gsop.settings import Settings
from tests.helm import CHART, rendered
from tests.support import ROOT

DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "kubernetes" / "base"
OVERLAYS = DEPLOY / "kubernetes" / "overlays"
DOCKERFILE = list(instructions((ROOT / "Dockerfile").read_text()))
USER = "10001:10001"
APPLICATION = (DEPLOY / "ray" / "app.py").read_text()
"""As text: Ray is not among the packages of the tests."""


def environment() -> dict[str, str]:
    pairs = [
        word.partition("=") for key, rest in DOCKERFILE if key == "ENV" for word in rest.split()
    ]
    return {name: value for name, _, value in pairs}


def test_the_image_ends_as_a_user_that_owns_nothing() -> None:
    keywords = [keyword for keyword, _ in DOCKERFILE]
    assert [rest for keyword, rest in DOCKERFILE if keyword == "USER"] == [USER]
    # Whatever is copied or made belongs to root, as nothing after USER makes anything.
    assert not {"RUN", "COPY", "ADD"} & set(keywords[keywords.index("USER") :])
    assert not [
        rest for keyword, rest in DOCKERFILE if keyword in ("COPY", "ADD") and "--ch" in rest
    ]
    assert not [rest for _, rest in DOCKERFILE if "chown" in rest or "chmod" in rest]
    assert "ADD" not in keywords


def test_the_image_holds_no_secret_and_not_the_whole_folder() -> None:
    copied = [word for key, rest in DOCKERFILE if key == "COPY" for word in rest.split()[:-1]]
    assert "." not in copied
    for word in copied:
        assert not PurePosixPath(word).is_absolute()
        assert ".." not in PurePosixPath(word).parts
    assert not {name for name in environment() if "KEY" in name or "ANONYMOUS" in name}


def test_compose_gives_no_rights() -> None:
    service: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"][
        "gsop"
    ]
    assert service["user"] == USER
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not {"privileged", "cap_add", "pid", "ipc", "network_mode", "devices"} & set(service)
    assert all(volume.endswith(":ro") for volume in service["volumes"])
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["environment"].keys() == {"GSOP_API_KEYS_FILE"}


def test_kubernetes_gives_no_rights() -> None:
    deployment = yaml.safe_load((BASE / "deployment.yaml").read_text())
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == USER
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all(mount["readOnly"] for mount in container["volumeMounts"])
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    settings = {entry["name"]: entry.get("value") for entry in container["env"]}
    drain = float(settings["GSOP_DRAIN_DELAY_SECONDS"]) + float(settings["GSOP_DRAIN_SECONDS"])
    assert pod["terminationGracePeriodSeconds"] > drain


def test_compose_with_a_gpu_asks_for_one_and_for_no_other_right() -> None:
    (service,) = yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text())["services"].values()
    assert service["environment"]["GSOP_DEVICE"] == "cuda"
    assert service["environment"]["CUDA_CACHE_DISABLE"] == "1"  # its file system is read only
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    plain = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["gsop"]
    limits = {"environment", "deploy", "mem_limit", "pids_limit"}
    assert service.keys() <= limits
    assert service["pids_limit"] > plain["pids_limit"]


def test_kubernetes_with_a_gpu_asks_for_one_and_for_memory_that_suffices() -> None:
    changed = yaml.safe_load((OVERLAYS / "gpu" / "gpu.yaml").read_text())
    whole = yaml.safe_load((BASE / "deployment.yaml").read_text())
    assert changed["metadata"] == whole["metadata"]
    (container,) = changed["spec"]["template"]["spec"]["containers"]
    assert container["name"] == whole["spec"]["template"]["spec"]["containers"][0]["name"]
    assert container.keys() == {"name", "env", "resources"}
    assert {"name": "GSOP_DEVICE", "value": "cuda"} in container["env"]
    assert {"name": "CUDA_CACHE_DISABLE", "value": "1"} in container["env"]
    assert container["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": 1}


def test_documents_name_the_driver_that_the_pinned_torch_needs() -> None:
    (pin,) = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line.startswith("nvidia-cuda-runtime")
    ]
    driver = NEEDED_DRIVERS[int(pin.partition("==")[2].partition(".")[0])]
    for path in ("README.md", "deploy/compose.gpu.yaml", "deploy/kubernetes/overlays/gpu/gpu.yaml"):
        assert f"{driver} or newer" in (ROOT / path).read_text(), path


FOLDERS = [BASE, *sorted(OVERLAYS.iterdir())]

OTHERS = ("ScaledObject", "PodMonitor")
"""Kinds that Kubernetes itself does not have."""

KUBERNETES = "1.31"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_what_is_applied_is_there_and_each_file_is_applied(folder: Path) -> None:
    applied = yaml.safe_load((folder / "kustomization.yaml").read_text())
    patches = [patch["path"] for patch in applied.get("patches", []) if "path" in patch]
    named = {*applied["resources"], *patches} - {"../../base"}
    assert named == {path.name for path in folder.iterdir()} - {"kustomization.yaml"}


CHARTED: dict[str, dict[str, Any]] = {
    "base": {},
    "gpu": {"gpu": True},
    "hpa": {"autoscale": {"by": "hpa"}},
    "ingress": {"ingress": {"enabled": True}},
    "keda": {"autoscale": {"by": "keda"}},
    "monitoring": {"monitor": {"enabled": True}},
    "shared": {"sharedSecret": "gsop-shared"},
    "store": {"store": {"address": "s3://models/shop"}},
}
"""The values by which the chart is what a folder of kustomize's is."""

ALL_AT_ONCE = {
    "autoscale": {"by": "keda", "min": 1, "max": 1},
    "settings": {"GSOP_SLOTS": 2_000_000, "GSOP_HEAD_SECONDS": 2.5, "GSOP_INSPECT": False},
    "drain": {"delaySeconds": 20, "seconds": 60},
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"pool": "gpus"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "resources": {"limits": {"memory": "1Gi"}},
    **{
        name: value
        for key in ("gpu", "ingress", "monitoring", "shared", "store")
        for name, value in CHARTED[key].items()
    },
}

REFUSED = (
    ({"replcas": 3}, "replcas"),
    ({"settings": {"GSOP_API_KEYS": "a:admin:0"}}, "GSOP_API_KEYS"),
    ({"drain": {"delaySeconds": 3}}, "delaySeconds"),
    ({"store": {"address": "models/shop"}}, "address"),
    ({"autoscale": {"min": 3, "max": 2}}, "autoscale.min (3) is above autoscale.max (2)"),
)


@pytest.fixture(scope="module")
def chart() -> list[Any]:
    """What Helm makes of the chart: as CHARTED has it, then all at once, then the refused."""
    return rendered(*CHARTED.values(), ALL_AT_ONCE, *(values for values, _ in REFUSED))


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl renders them")
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_what_kubernetes_is_given_is_as_its_schemas_say(folder: Path, chart: list[Any]) -> None:
    command = ["kubectl", "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found = list(yaml.safe_load_all(done.stdout))
    check(found, is_scaled=folder.name in ("hpa", "keda"))
    # The chart is the same, whatever it is that there is to say.
    assert by_kind(chart[list(CHARTED).index(folder.name)]) == by_kind(found)


def test_the_chart_is_as_the_schemas_say(chart: list[Any]) -> None:
    for (name, _), found in zip(CHARTED.items(), chart, strict=False):
        check(found, is_scaled=name in ("hpa", "keda"))
    together = chart[len(CHARTED)]
    check(together, is_scaled=True)
    resources = by_kind(together)
    egress = resources["NetworkPolicy"]["spec"]["egress"][0]["ports"]
    assert [each["port"] for each in egress] == [443, 6379, 53, 53]
    (container,) = resources["Deployment"]["spec"]["template"]["spec"]["containers"]
    given = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert given["GSOP_SLOTS"] == "2000000"
    assert given["GSOP_HEAD_SECONDS"] == "2.5"
    assert given["GSOP_INSPECT"] == "false"
    assert container["resources"] == {"limits": {"memory": "1Gi"}}


def test_the_chart_refuses_what_it_does_not_know(chart: list[Any]) -> None:
    for (_, reason), told in zip(REFUSED, chart[-len(REFUSED) :], strict=True):
        assert isinstance(told, str), reason
        assert reason in told


def test_the_chart_has_the_version_of_the_service() -> None:
    told = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert told["version"] == told["appVersion"] == __version__


def test_ray_is_given_one_application_by_both_files() -> None:
    alone = yaml.safe_load((DEPLOY / "ray" / "config.yaml").read_text())
    service = yaml.safe_load((DEPLOY / "ray" / "service.yaml").read_text())["spec"]
    given = yaml.safe_load(service["serveConfigV2"])
    assert given == {"applications": alone["applications"]}
    ((deployment,),) = (each["deployments"] for each in given["applications"])
    (group,) = service["rayClusterConfig"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    wanted = deployment["ray_actor_options"]
    assert limits["nvidia.com/gpu"] == wanted["num_gpus"]
    assert int(limits["cpu"]) > wanted["num_cpus"]  # Ray's proxy is there too
    graceful = re.search(r"graceful_shutdown_timeout_s=(\d+)", APPLICATION)
    assert graceful is not None
    assert group["template"]["spec"]["terminationGracePeriodSeconds"] > int(graceful[1])
    assert int(graceful[1]) > Settings.model_fields["drain_seconds"].default
    slots = int(given["applications"][0]["runtime_env"]["env_vars"]["GSOP_SLOTS"])
    assert deployment["max_ongoing_requests"] == slots
    assert f"SLOTS = {slots}\n" in APPLICATION


def by_kind(resources: list[dict[str, Any]]) -> dict[str, Any]:
    """Resources by their kind, without what Helm marks its own by, variables by their names."""
    found = {}
    for resource in resources:
        kept = dict(resource)
        kept["metadata"] = {k: v for k, v in resource["metadata"].items() if k != "labels"}
        if resource["kind"] == "Deployment":
            (container,) = kept["spec"]["template"]["spec"]["containers"]
            container["env"].sort(key=lambda entry: entry["name"])
        found[resource["kind"]] = kept
    assert len(found) == len(resources)
    return found


def check(resources: list[dict[str, Any]], *, is_scaled: bool) -> None:
    """As schemas say; instances are counted by one alone; times and names go together."""
    for resource in resources:
        if resource["kind"] not in OTHERS:
            kubernetes_validate.validate(resource, KUBERNETES, strict=True)
    kinds = by_kind(resources)
    spec = kinds["Deployment"]["spec"]
    assert ("replicas" in spec) is not is_scaled
    labels = spec["template"]["metadata"]["labels"]
    assert kinds["Service"]["spec"]["selector"] == labels
    for kind, field in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        assert kinds[kind]["spec"][field]["matchLabels"] == labels
    (container,) = spec["template"]["spec"]["containers"]
    given = {entry["name"]: entry.get("value") for entry in container["env"]}
    settings = {f"GSOP_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in given if name.startswith("GSOP_")} <= settings
    drain = float(given["GSOP_DRAIN_DELAY_SECONDS"]) + float(given["GSOP_DRAIN_SECONDS"])
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= drain + 5
    # An instance that leaves is out of the Service before it takes no more.
    probe = container["readinessProbe"]
    silent = probe["periodSeconds"] * probe.get("failureThreshold", 3)
    assert float(given["GSOP_DRAIN_DELAY_SECONDS"]) > silent
    if "PodMonitor" in kinds and "ScaledObject" in kinds:
        # What the autoscaler asks for is what is scraped: the job is the pods' label.
        label = kinds["PodMonitor"]["spec"]["jobLabel"]
        (trigger,) = kinds["ScaledObject"]["spec"]["triggers"]
        assert f'job="{labels[label]}"' in trigger["metadata"]["query"]

"""What a container of the project may do, read off the files that start one.

That the service lives within it is tried in ``tests/test_confined.py``.
"""

from pathlib import PurePosixPath
from typing import Any

import yaml

from deploy.chroot_build import instructions
from gsop.backends.gpus import NEEDED_DRIVERS
from tests.support import ROOT

DEPLOY = ROOT / "deploy"
DOCKERFILE = list(instructions((ROOT / "Dockerfile").read_text()))
USER = "10001:10001"


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
    deployment, _ = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
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
    settings = {entry["name"]: entry["value"] for entry in container["env"]}
    drain = float(settings["GSOP_DRAIN_DELAY_SECONDS"]) + float(settings["GSOP_DRAIN_SECONDS"])
    assert pod["terminationGracePeriodSeconds"] > drain


def test_compose_with_a_gpu_asks_for_one_and_for_no_other_right() -> None:
    (service,) = yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text())["services"].values()
    assert service["environment"]["GSOP_DEVICE"] == "cuda"
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    plain = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["gsop"]
    limits = {"environment", "deploy", "mem_limit", "pids_limit"}
    assert service.keys() <= limits
    assert service["pids_limit"] > plain["pids_limit"]


def test_kubernetes_with_a_gpu_asks_for_one_and_for_memory_that_suffices() -> None:
    applied = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())
    assert applied["resources"] == ["kubernetes.yaml"]
    (patch,) = applied["patches"]
    changed = yaml.safe_load((DEPLOY / patch["path"]).read_text())
    whole, _ = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    assert changed["metadata"] == whole["metadata"]
    (container,) = changed["spec"]["template"]["spec"]["containers"]
    assert container["name"] == whole["spec"]["template"]["spec"]["containers"][0]["name"]
    assert container.keys() == {"name", "env", "resources"}
    assert {"name": "GSOP_DEVICE", "value": "cuda"} in container["env"]
    assert container["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": 1}


def test_documents_name_the_driver_that_the_pinned_torch_needs() -> None:
    (pin,) = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line.startswith("nvidia-cuda-runtime")
    ]
    driver = NEEDED_DRIVERS[int(pin.partition("==")[2].partition(".")[0])]
    for path in ("README.md", "deploy/compose.gpu.yaml", "deploy/kubernetes.gpu.yaml"):
        assert f"{driver} or newer" in (ROOT / path).read_text(), path

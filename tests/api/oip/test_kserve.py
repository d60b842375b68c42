"""KServe's Python client, unchanged, in the environment that ``make kserve`` creates."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

from gsop.images import decode
from gsop.store.manifest import read_manifest
from tests.api.oip.test_grpc import address_of
from tests.api.oip.test_rest import EXAMPLES, predicted
from tests.support import ROOT, Server

RUNTIME = ROOT / "deploy" / "kserve" / "runtime.yaml"
PYTHON = ROOT / ".venv" / "kserve" / "bin" / "python"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="run `make kserve`"),
]


def mounted(folder: Path) -> Path:
    """``/mnt/models``, as KServe's init container leaves it: what lies below a storageUri."""
    models = folder / "mnt" / "models"
    shutil.copytree(ROOT / "model_store" / "digits", models / "digits")
    (models / "index.json").write_text("{}")  # the remote store's own
    return models


def of_the_runtime() -> dict[str, str]:
    """The settings of deploy/kserve, but for what is another place here."""
    (container,) = yaml.safe_load(RUNTIME.read_text())["spec"]["containers"]
    given = {entry["name"]: entry["value"] for entry in container["env"]}
    for elsewhere in ("PORT", "GRPC_PORT", "MODEL_STORE", "API_KEYS_FILE"):
        del given[f"GSOP_{elsewhere}"]
    return {
        name.removeprefix("GSOP_").lower(): value.replace("{{.Name}}", "digits")
        for name, value in given.items()
    }


def test_kserves_client_is_answered_as_predict_is(tmp_path: Path) -> None:
    image, pixels = tmp_path / "image.png", tmp_path / "pixels.npy"
    image.write_bytes(EXAMPLES[7])
    spec = read_manifest(ROOT / "model_store" / "digits" / "1").input
    seen_by_network = decode(EXAMPLES[7], spec, max_pixels=10**6)
    np.save(pixels, np.ascontiguousarray(seen_by_network.transpose(2, 0, 1)[None]))
    with Server(mounted(tmp_path), grpc_port=0, **of_the_runtime()) as server:
        address = address_of(server.wait_ready())
        script = Path(__file__).with_name("kserve_client.py")
        command = [str(part) for part in (PYTHON, script, server.url, address, image, pixels)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        probabilities, gates = predicted(server, EXAMPLES[7])
    for protocol, seen in json.loads(done.stdout).items():
        assert (seen["live"], seen["ready"], seen["model"]) == (True, True, True), protocol
        for form in ("image", "pixels", "numbers"):
            answer = seen[form]
            assert answer["id"] == form
            for name, value in {"probabilities": probabilities, **gates}.items():
                np.testing.assert_allclose(answer["outputs"][name][0], value, atol=1e-5)
    status, text = json.loads(done.stdout)["rest"]["error"]
    assert status == 404
    assert text.startswith("others is not loaded")

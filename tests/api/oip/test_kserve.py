"""KServe's Python client, unchanged, in the environment that ``make kserve`` creates."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from gsop.images import decode
from gsop.store.manifest import read_manifest
from tests.api.oip.test_grpc import address_of
from tests.api.oip.test_rest import EXAMPLES, predicted
from tests.support import ROOT, Server

PYTHON = ROOT / ".venv" / "kserve" / "bin" / "python"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="run `make kserve`"),
]


def test_kserves_client_is_answered_as_predict_is(tmp_path: Path) -> None:
    image, pixels = tmp_path / "image.png", tmp_path / "pixels.npy"
    image.write_bytes(EXAMPLES[7])
    spec = read_manifest(ROOT / "model_store" / "digits" / "1").input
    seen_by_network = decode(EXAMPLES[7], spec, max_pixels=10**6)
    np.save(pixels, np.ascontiguousarray(seen_by_network.transpose(2, 0, 1)[None]))
    with Server(ROOT / "model_store", grpc_port=0) as server:
        address = address_of(server.wait_ready())
        script = Path(__file__).with_name("kserve_client.py")
        command = [PYTHON, script, server.url, address, image, pixels]
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
    assert "others is not loaded" in text

"""Against an S3 that others wrote (``make s3``): its conditions and ranges are as is thought."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from gsop.errors import StoreError
from gsop.store.manifest import MANIFEST_FILE
from gsop.store.mirror import Mirror
from gsop.store.push import push
from gsop.store.remote import Changed, Remote, Taken
from tests.store.conftest import Publish
from tests.support import eventually

pytestmark = pytest.mark.skipif(shutil.which("moto_server") is None, reason="run `make s3`")


@pytest.fixture
def server() -> Iterator[subprocess.Popen[bytes]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = ["moto_server", "-H", "127.0.0.1", "-p", port]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    endpoint = f"http://127.0.0.1:{port}"

    def is_made() -> bool:
        with suppress(httpx.HTTPError):
            return httpx.put(f"{endpoint}/models").status_code == 200
        return False

    try:
        eventually(is_made, 60)
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("AWS_ENDPOINT_URL", endpoint)
            patched.setenv("AWS_ACCESS_KEY_ID", "nobody")
            patched.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
            patched.setenv("AWS_REGION", "us-east-1")
            yield process
    finally:
        process.kill()
        process.wait()


def test_a_version_goes_there_and_comes_back(
    server: subprocess.Popen[bytes], folder: Path, publish_tiny: Publish, tmp_path: Path
) -> None:
    remote = Remote("s3://models/shop")
    push(folder, remote)
    push(publish_tiny(version="2"), remote)
    found = Mirror(tmp_path / "copy", remote).fetch("tiny", "2")
    assert (found / MANIFEST_FILE).read_bytes()
    with pytest.raises(Taken):
        remote.create("index.json", b"mine")
    with pytest.raises(Changed):
        remote.replace("index.json", b"mine", '"another"')
    piece = remote.read("tiny/1/model.safetensors", 10, 20)
    assert len(piece.data) == 10
    with pytest.raises(Changed):
        remote.read("tiny/1/model.safetensors", 10, 20, '"another"')
    server.kill()
    server.wait()
    assert Mirror(tmp_path / "copy", remote).fetch("tiny", "2") == found
    with pytest.raises(StoreError):
        Mirror(tmp_path / "new", remote).fetch("tiny", "2")

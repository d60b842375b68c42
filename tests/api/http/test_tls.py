"""HTTPS with a certificate that the test makes."""

import contextlib
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trustme

from tests.support import Server, random_pngs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(folder / "chain.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    return folder


def test_with_a_certificate_only_https_is_spoken(
    tiny_store: Path, authority: trustme.CA, certificate: Path
) -> None:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    server = Server(
        tiny_store,
        *("--tls-certfile", str(certificate / "chain.pem")),
        *("--tls-keyfile", str(certificate / "key.pem")),
        models="tiny",
    )
    server.verify = trusting
    with server:
        server.wait_ready()
        assert server.url.startswith("https://")
        assert server.predict(random_pngs(1)[0])["predictions"]
        with pytest.raises(httpx.ConnectError, match="certificate"):
            httpx.get(f"{server.url}/readyz")  # whoever does not know the authority
        address = urlsplit(server.url)
        where = (address.hostname or "", address.port or 0)
        with socket.create_connection(where, timeout=30) as plain:
            plain.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"HTTP" not in plain.recv(65536)
        assert server.http.get("/readyz").status_code == 200


def test_who_begins_no_handshake_is_sent_away(
    tiny_store: Path, authority: trustme.CA, certificate: Path
) -> None:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    files = {"tls_certfile": certificate / "chain.pem", "tls_keyfile": certificate / "key.pem"}
    server = Server(tiny_store, models="tiny", head_seconds=1, **files)
    server.verify = trusting
    with server:
        server.wait_ready()
        address = urlsplit(server.url)
        where = (address.hostname or "", address.port or 0)
        silent = [socket.create_connection(where, timeout=30) for _ in range(500)]
        assert server.predict(random_pngs(1)[0])["predictions"]
        for connection in silent:
            with connection, contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""  # fails by its timeout if it stays open


@pytest.mark.parametrize(
    ("files", "remedy"),
    [
        ({"tls_certfile": "chain.pem", "tls_keyfile": "nowhere.pem"}, "No such file"),
        ({"tls_certfile": "key.pem", "tls_keyfile": "key.pem"}, "PEM chain and its key"),
        ({"tls_certfile": "chain.pem"}, "PEM chain and its key"),
        ({"tls_keyfile": "key.pem"}, "set both, or neither"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_refused_at_start(
    tiny_store: Path, certificate: Path, files: dict[str, str], remedy: str
) -> None:
    paths = {name: certificate / file for name, file in files.items()}
    status, lines = Server(tiny_store, models="tiny", **paths).run_to_end()
    assert status == 1
    (error,) = [line for line in lines if line.startswith("gsop: error:")]
    assert "GSOP_TLS" in error
    assert remedy in error

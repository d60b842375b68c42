"""Until when a certificate is valid is read off it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from gsop.api.http.certificate import expiry
from tests.support import ROOT, Server


@pytest.mark.parametrize("year", [2027, 2049, 2050, 2999])
def test_a_chain_expires_with_its_first_certificate(tmp_path: Path, year: int) -> None:
    authority, end = trustme.CA(), datetime(year, 1, 2, 3, 4, 5, tzinfo=UTC)
    leaf = authority.issue_cert("localhost", not_after=end)
    chain = tmp_path / "chain.pem"
    chain.write_bytes(leaf.private_key_and_cert_chain_pem.bytes() + authority.cert_pem.bytes())
    whole = x509.load_pem_x509_certificate(authority.cert_pem.bytes()).not_valid_after_utc
    assert expiry(chain) == min(end, whole).timestamp()


@pytest.mark.slow
def test_a_service_with_tls_tells_it(tmp_path: Path) -> None:
    authority = trustme.CA()
    leaf, chain = authority.issue_cert("127.0.0.1"), tmp_path / "chain.pem"
    chain.write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
    server = Server(ROOT / "model_store", tls_certfile=chain, cage="required")
    server.verify = False
    with server:
        server.wait_ready()
        assert server.metric("gsop_certificate_expiry_timestamp_seconds") == expiry(chain)

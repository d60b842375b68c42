"""Pages of other origins: shut out unless they are named."""

from pathlib import Path

import pytest

from gsop.keys import make_key
from tests.support import Server, random_pngs

pytestmark = pytest.mark.slow

ORIGIN = "https://page.example"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


def test_cors_is_off_by_default(digits_server: Server) -> None:
    asked = digits_server.http.options("/predict", headers=PREFLIGHT)
    answer = digits_server.http.get("/models", headers={"Origin": ORIGIN})
    assert asked.status_code == 405
    assert answer.status_code == 200
    for headers in (asked.headers, answer.headers):
        assert not [name for name in headers if name.startswith("access-control")]


def test_named_origins_are_let_in_and_still_need_a_key(tiny_store: Path) -> None:
    key, entry = make_key("page", ["predict"])
    with Server(tiny_store, models="tiny", cors_origins=ORIGIN, api_keys=entry) as server:
        server.wait_ready()
        asked = server.http.options("/predict", headers=PREFLIGHT)
        other = server.http.options("/predict", headers=PREFLIGHT | {"Origin": "https://evil.test"})
        headers = {"Origin": ORIGIN, "Content-Type": "image/png"}
        refused = server.http.post("/predict", content=random_pngs(1)[0], headers=headers)
        headers |= {"Authorization": f"Bearer {key}"}
        served = server.http.post("/predict", content=random_pngs(1)[0], headers=headers)
    assert (asked.status_code, other.status_code) == (200, 400)
    assert "access-control-allow-origin" not in other.headers
    assert (refused.status_code, served.status_code) == (401, 200)
    for answer in (asked, refused, served):
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "access-control-allow-credentials" not in answer.headers

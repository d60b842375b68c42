"""Both ways to ``POST /predict``, the direct one and FastAPI's, give the same answers."""

from typing import Any

import httpx
import pytest

from tests.support import ROOT, Server

pytestmark = pytest.mark.slow

SEVEN = (ROOT / "examples" / "digits" / "7.png").read_bytes()
PNG = {"Content-Type": "image/png"}

REQUESTS: dict[str, dict[str, Any]] = {
    "an image": {"content": SEVEN, "headers": PNG},
    "gates": {"content": SEVEN, "headers": PNG, "params": {"attention": "true"}},
    "a form": {"files": {"image": ("7.png", SEVEN, "image/png")}},
    "two images": {"files": [("image", ("a", SEVEN)), ("image", ("b", b"no image"))]},
    "no image": {"content": b"no image", "headers": PNG},
    "no body": {"content": b"", "headers": PNG},
    "text": {"content": b"seven", "headers": {"Content-Type": "text/plain"}},
    "broken JSON": {"content": b"{", "headers": {"Content-Type": "application/json"}},
    "unknown model": {"content": SEVEN, "headers": PNG, "params": {"model": "nobody's"}},
    "unknown parameter": {"content": SEVEN, "headers": PNG, "params": {"top": "3"}},
    "no number": {"content": SEVEN, "headers": PNG, "params": {"timeout_ms": "soon"}},
    "too small": {"content": SEVEN, "headers": PNG, "params": {"timeout_ms": "0"}},
}


def ask(server: Server, request: dict[str, Any], top_k: list[str]) -> httpx.Response:
    params = request.get("params", {}) | {"top_k": top_k}
    return server.http.post("/predict", **(request | {"params": params}))


def timeless(value: Any) -> Any:
    """What an answer says, without what differs each time."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in ("id", "timing_ms")}
    return [timeless(member) for member in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", REQUESTS)
def test_both_ways_answer_alike(digits_server: Server, name: str) -> None:
    direct = ask(digits_server, REQUESTS[name], ["3"])
    # Of a parameter that is given twice FastAPI takes the last; the direct way leaves it to it.
    long = ask(digits_server, REQUESTS[name], ["2", "3"])
    assert direct.status_code == long.status_code
    assert timeless(direct.json()) == timeless(long.json())
    assert set(direct.headers) == set(long.headers)


def test_both_ways_are_counted_under_one_route(digits_server: Server) -> None:
    def count() -> float:
        return digits_server.metric("gsop_requests_total", route="/predict", status="200")

    before = count()
    for top_k in (["1"], ["1", "1"]):
        ask(digits_server, REQUESTS["an image"], top_k)
    assert count() == before + 2

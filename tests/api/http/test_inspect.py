"""``POST /inspect``: forms, refusals, and predictions beside it."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from gsop.api.http.inspect_schemas import InspectionAnswer
from gsop.keys import make_key
from tests.support import ROOT, Server, random_pngs

pytestmark = pytest.mark.slow

PNG = {"Content-Type": "image/png"}
IMAGE = (ROOT / "examples/digits/7.png").read_bytes()
OTHER = (ROOT / "examples/drawn/3.png").read_bytes()


def inspect(server: Server, accept: str = "*/*", **query: Any) -> httpx.Response:
    headers = PNG | {"Accept": accept}
    return server.http.post("/inspect", params=query, content=IMAGE, headers=headers)


def test_json_is_as_it_is_documented(digits_server: Server) -> None:
    answer = inspect(digits_server, top_k=2)
    assert answer.status_code == 200, answer.text
    told = InspectionAnswer.model_validate(answer.json())
    assert (told.model.name, told.predictions[0].label, len(told.predictions)) == ("digits", "7", 2)
    asked = digits_server.predict(IMAGE, attention=True)
    served = {gate["block"]: gate["gate"] for gate in asked["attention"]}
    for gate in told.gates:
        np.testing.assert_allclose(gate.gate, served[gate.block], atol=1e-4)
        assert gate.matrix is None
    assert [c.gate for c in told.channels] == ["layer4.1.channel"]
    assert told.channels[0].strongest[0] == 79
    assert {a.way for a in told.ablations} == {"open", "closed", "mean"}


def test_a_second_image_lends_its_gates(digits_server: Server) -> None:
    files = [("image", ("a.png", IMAGE)), ("image", ("b.png", OTHER))]
    answer = digits_server.http.post("/inspect", params={"gate": "none"}, files=files)
    assert answer.status_code == 200, answer.text
    told = InspectionAnswer.model_validate(answer.json())
    assert [a.stage for a in told.ablations if a.way == "other"] == [
        *("layer1", "layer2", "layer3", "layer4", "all")
    ]
    assert told.channels == []


def test_other_forms(digits_server: Server) -> None:
    page = inspect(digits_server, "text/html", gate="none")
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"] == "sandbox"
    assert page.text.startswith("<!doctype html>")
    numbers = inspect(digits_server, "application/x-npz", gate="none")
    with np.load(io.BytesIO(numbers.content)) as arrays:
        assert arrays["layer1.1.channel.matrix"].shape == (16, 16)


@pytest.mark.parametrize(
    ("query", "accept", "status", "detail"),
    [
        ({"gate": "layer9"}, "*/*", 422, "there are: layer1.1.channel, "),
        ({"model": "nobody"}, "*/*", 404, "nobody"),
        ({}, "image/png", 406, "application/json, text/html, application/x-npz"),
        ({"timeout_ms": 1}, "*/*", 504, ""),
        ({"colour": "red"}, "*/*", 422, "colour"),
    ],
)
def test_refusals(
    query: dict[str, Any], accept: str, status: int, detail: str, digits_server: Server
) -> None:
    answer = inspect(digits_server, accept, **query)
    assert answer.status_code == status, answer.text
    assert detail in answer.json()["detail"]


def test_a_broken_image(digits_server: Server) -> None:
    answer = digits_server.http.post("/inspect", content=b"no image", headers=PNG)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_image")


@pytest.fixture(scope="module")
def without(tiny_store: Path) -> Iterator[Server]:
    """A service that inspects nothing, with keys."""
    with Server(tiny_store, models="tiny", inspect=False, api_keys=_ENTRIES) as server:
        yield server.wait_ready()


_KEYS = {scope: make_key(scope, [scope]) for scope in ("predict", "attention")}
_ENTRIES = ",".join(str(entry) for _, entry in _KEYS.values())


@pytest.mark.parametrize(
    ("scope", "detail"), [("predict", "scope admin or attention"), ("attention", "turned off")]
)
def test_it_takes_a_scope_and_can_be_turned_off(scope: str, detail: str, without: Server) -> None:
    headers = PNG | {"Authorization": f"Bearer {_KEYS[scope][0]}"}
    answer = without.http.post("/inspect", content=random_pngs(1)[0], headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert detail in answer.json()["detail"]

"""What a running service logs of its requests: their ids, and nothing that a client sent."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import Server, eventually, random_pngs

pytestmark = pytest.mark.slow

GOOD = random_pngs(1)[0]
SECRET = "hunter2-correct-horse"  # noqa: S105  # it is looked for


@pytest.fixture(scope="module")
def server(tiny_store: Path) -> Iterator[Server]:
    with Server(tiny_store, models="tiny", log_requests=True, log_level="debug") as server:
        yield server.wait_ready()


def lines(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log]


def test_every_line_is_json(server: Server) -> None:
    server.predict(GOOD)
    seen = eventually(lambda: [line for line in lines(server) if line.get("route") == "/predict"])
    assert {line["process"] for line in lines(server)} >= {"supervisor", "engine 0", "front 0"}
    for line in lines(server):
        assert {"time", "level", "process", "request_id", "message"} <= set(line)
    assert seen[0]["status"] == 200
    assert seen[0]["request_id"]


def test_a_request_is_found_by_its_id(server: Server) -> None:
    server.http.get("/models/tiny", headers={"X-Request-Id": "order-66"})
    (line,) = eventually(
        lambda: [line for line in lines(server) if line["request_id"] == "order-66"]
    )
    assert (line["route"], line["method"], line["status"]) == ("/models/{name}", "GET", 200)


@pytest.mark.parametrize(
    "body", [b"no boundary at all", b"--edge\r\nX\xf4: y\r\n\r\n", b"--edge--\r\n" + b"z" * 99]
)
def test_parsers_log_nothing_of_a_body(body: bytes, server: Server) -> None:
    form = {"Content-Type": "multipart/form-data; boundary=edge", "X-Request-Id": "a-form"}
    assert server.http.post("/predict", content=body, headers=form).status_code == 400
    said = eventually(lambda: [line for line in lines(server) if line["request_id"] == "a-form"])
    assert {line["message"] for line in said} == {"a request was answered"}


def test_nothing_that_a_client_sent_is_logged(server: Server) -> None:
    requests: list[dict[str, Any]] = [
        {"url": f"/attention/{SECRET}", "method": "GET"},
        {"url": f"/{SECRET}", "method": "GET"},
        {"url": f"/predict?model={SECRET}", "content": GOOD},
        {"url": f"/predict?{SECRET}={SECRET}", "content": GOOD},
        {"url": "/predict", "content": SECRET.encode()},
        {"url": "/predict", "json": {"image": base64.b64encode(SECRET.encode()).decode()}},
        {"url": "/predict", "files": {"image": (f"/home/{SECRET}.png", b"no image")}},
        {"url": "/predict", "content": GOOD, "headers": {"Content-Type": f"x/{SECRET}"}},
        {"url": "/predict", "content": GOOD, "headers": {"X-Request-Id": f"<{SECRET}>"}},
        {"url": "/readyz", "method": "GET", "headers": {"Authorization": f"Bearer {SECRET}"}},
        {"url": "/readyz", "method": "GET", "headers": {"Cookie": SECRET, "Referer": SECRET}},
    ]
    for request in requests:
        headers = {"Content-Type": "image/png"} if "content" in request else {}
        request["headers"] = headers | request.get("headers", {})
        server.http.request(request.pop("method", "POST"), **request)
    server.http.get("/readyz", headers={"X-Request-Id": "the-last"})
    eventually(lambda: "the-last" in "".join(server.log))
    log = "".join(server.log)
    for hidden in (SECRET, base64.b64encode(SECRET.encode()).decode(), "/home/"):
        assert hidden not in log


def test_of_operators_calls_only_calls_and_names_are_told(server: Server) -> None:
    server.http.post("/healthz", headers={"X-Request-Id": "no-call"})
    server.http.put(f"/{SECRET}", headers={"X-Request-Id": "no-call"})
    no_name = f"/models/tiny/versions/{SECRET}%20{'x' * 900}/load"
    server.http.post(no_name, headers={"X-Request-Id": "a-call"})
    said = eventually(lambda: [line for line in lines(server) if line["request_id"] == "a-call"])
    (told,) = [line for line in said if line["message"] == "an operator's call"]
    assert (told["status"], told["of"]) == (422, {"name": "tiny"})
    of_others = [line["message"] for line in lines(server) if line["request_id"] == "no-call"]
    assert of_others == ["a request was answered"] * 2
    assert SECRET not in "".join(server.log)

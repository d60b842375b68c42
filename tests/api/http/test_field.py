"""What proxies, probes and operators do to the service, as they have reported it elsewhere."""

import dataclasses
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image

from gsop.api.http.routes import ROUTES, route_of
from gsop.keys import make_key
from tests.stores import publish_tiny
from tests.support import ROOT, TINY, Server, eventually, free_port, random_pngs

pytestmark = pytest.mark.slow

GOOD = random_pngs(1)[0]
KEY, ENTRY = make_key("shop", ["admin"])


@pytest.fixture(scope="module")
def server(tiny_store: Path) -> Iterator[Server]:
    """Below a prefix, with keys, short of patience, and with a line for each request."""
    settings = {"root_path": "/gsop", "api_keys": ENTRY, "head_seconds": 1, "log_requests": True}
    with Server(tiny_store, models="tiny", **settings) as server:
        server.http.headers["Authorization"] = f"Bearer {KEY}"
        yield server.wait_ready()


def test_head_is_get_without_the_body(server: Server) -> None:
    """On every route, the pages among them."""
    known = {"name": "tiny", "version": "1", "id": server.predict(GOOD)["id"]}
    described = server.http.get("/openapi.json").json()["paths"]
    paths = [path.format(**known) for path, calls in described.items() if "get" in calls]
    assert {"/healthz", "/models/tiny", f"/attention/{known['id']}"} < set(paths)
    for path in (*paths, "/", "/docs", "/openapi.json", "/web/page.js"):
        wanted, answer = server.http.get(path), server.http.head(path)
        assert (answer.status_code, answer.content) == (wanted.status_code, b""), path
        assert answer.headers["content-type"] == wanted.headers["content-type"], path
        if path in ("/healthz", "/", "/docs", "/models/tiny"):  # others tell of the time
            assert answer.headers["content-length"] == wanted.headers["content-length"]
    assert server.http.head("/predict").status_code == 405  # as GET is


@pytest.mark.parametrize("prefix", ["", "/gsop"])
def test_a_prefix_may_be_stripped_or_not(server: Server, prefix: str) -> None:
    http_ = server.http
    assert http_.get(f"{prefix}/models/tiny").status_code == 200
    assert http_.post(f"{prefix}/predict", content=GOOD).status_code == 200
    assert "web/page.js" in http_.get(f"{prefix}/").text
    assert http_.get(f"{prefix}/web/page.js").status_code == 200
    assert http_.get(f"{prefix}/openapi.json").json()["servers"] == [{"url": "/gsop"}]


@pytest.mark.parametrize(
    ("path", "location"),
    [("/gsop", "gsop/"), ("/docs/", "../docs"), ("/gsop/models/tiny/", "../tiny")],
)
def test_redirects_are_relative(server: Server, path: str, location: str) -> None:
    answer = server.http.get(path)
    assert (answer.status_code, answer.headers["location"]) == (308, location)
    followed = server.http.get(path, follow_redirects=True)
    assert (followed.status_code, followed.url.port) == (200, server.http.base_url.port)


def test_a_post_with_a_slash_too_many_is_answered(server: Server) -> None:
    assert server.http.post("/predict/", content=GOOD).status_code == 200


PROXY = """daemon off; pid nginx.pid; error_log stderr warn;
events {{ }}
http {{
    access_log off; client_body_temp_path bodies;
    server {{
        listen 127.0.0.1:{port};
        location /gsop/ {{ proxy_pass {url}/gsop/; proxy_set_header Host $http_host; }}
        location /bare/ {{ proxy_pass {url}/; proxy_set_header Host $http_host; }}
    }}
}}
"""


def shipped(server: Server, port: int) -> str:
    """deploy/nginx.conf, which listens elsewhere and has one instance."""
    text = (ROOT / "deploy" / "nginx.conf").read_text("utf-8")
    text = text.replace("127.0.0.1:8001", server.url.removeprefix("http://"))
    text = re.sub(r" *server 127.0.0.1:8002.*\n", "", text)
    return text.replace("listen 127.0.0.1:8000", f"listen 127.0.0.1:{port}")


@contextmanager
def proxy(server: Server, folder: Path, *, plain: bool = False) -> Iterator[str]:
    port = free_port()
    text = shipped(server, port) if plain else PROXY.format(port=port, url=server.url)
    (folder / "nginx.conf").write_text(text)
    command = ["nginx", "-p", str(folder), "-c", "nginx.conf", "-g", "master_process off;"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: _listens(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_behind_nginx_below_a_prefix_stripped_and_not(server: Server, tmp_path: Path) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    with proxy(server, tmp_path) as url, httpx.Client(headers=headers, timeout=60) as client:
        for prefix in ("gsop", "bare"):
            assert client.post(f"{url}/{prefix}/predict", content=GOOD).status_code == 200
            assert client.get(f"{url}/{prefix}/web/page.js").status_code == 200
            followed = client.get(f"{url}/{prefix}/models/", follow_redirects=True)
            assert str(followed.url) == f"{url}/{prefix}/models"
            assert followed.status_code == 200


REFUSED: list[tuple[int, str, str, dict[str, str]]] = [  # status, call, headers
    (415, "POST", "/predict", {"Content-Encoding": "gzip"}),
    (404, "POST", "/nowhere", {}),
    (422, "POST", "/predict?top_k=0", {}),
    (405, "PUT", "/predict", {}),
    (401, "POST", "/predict", {"Authorization": "Bearer nobody"}),
    (413, "POST", "/predict", {}),
]


def test_the_shipped_proxy_keeps_the_port(server: Server, tmp_path: Path) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    with proxy(server, tmp_path, plain=True) as url, httpx.Client(headers=headers) as client:
        assert client.post(f"{url}/predict/", content=GOOD).status_code == 200
        followed = client.get(f"{url}/models/", follow_redirects=True)
        assert (followed.status_code, str(followed.url)) == (200, f"{url}/models")


def test_a_connection_is_kept_after_a_refusal_as_after_an_answer(server: Server) -> None:
    address = urlsplit(server.url)
    kept = []
    for status, method, path, headers in REFUSED:
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
        body = bytes(11_000_000) if status == 413 else GOOD
        connection.request(method, path, body, {"Authorization": f"Bearer {KEY}", **headers})
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (status, True)
        if answer.getheader("Connection") != "close":
            kept.append((connection, connection.sock))
    assert len(kept) == len(REFUSED)
    threading.Event().wait(3.5)  # three times what a head may take
    for connection, stream in kept:
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        assert connection.sock is stream
        connection.close()


ODD_HEADS = {
    "what proxies add": (b"1.1", b"".join(b"X-%d: %b\r\n" % (n, b"x" * 990) for n in range(60))),
    "HTTP/1.0": (b"1.0", b""),
    "HTTP/1.0, kept": (b"1.0", b"Connection: keep-alive\r\n"),
    "Expect": (b"1.1", b"Expect: 100-continue\r\n"),
}


@pytest.mark.parametrize("odd", ODD_HEADS)
def test_odd_heads_are_answered(server: Server, odd: str) -> None:
    version, lines = ODD_HEADS[odd]
    address = urlsplit(server.url)
    head = b"POST /predict HTTP/%b\r\nHost: localhost\r\nContent-Length: %d\r\n%b" % (
        *(version, len(GOOD)),
        b"Authorization: Bearer %b\r\n%b\r\n" % (KEY.encode(), lines),
    )
    with socket.create_connection((str(address.hostname), address.port), 30) as connection:
        connection.sendall(head)
        if odd == "Expect":
            assert connection.recv(2**16).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(GOOD)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 200
        assert json.loads(answer.read())["predictions"]


def test_a_client_that_does_not_read_while_it_sends_gets_its_refusal(server: Server) -> None:
    """Python's urllib, which asks for the connection to be closed, too."""
    for _ in range(3):
        request = urllib.request.Request(  # noqa: S310  # our own server
            f"{server.url}/predict", b"x" * 11_000_000, {"Authorization": f"Bearer {KEY}"}
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)  # noqa: S310
        with refused.value:
            assert refused.value.code == 413
            assert json.loads(refused.value.read())["code"] == "body_too_large"


def test_who_is_refused_at_the_door_is_counted_by_the_call(server: Server) -> None:
    before = server.metric("gsop_requests_total", route="/predict", status="401")
    with httpx.Client(base_url=server.url) as stranger:
        assert stranger.post("/predict", content=GOOD).status_code == 401
    assert server.metric("gsop_requests_total", route="/predict", status="401") == before + 1
    assert all(route_of(route) == route for route in ROUTES)
    assert route_of("/attention/some-id") == "/attention/{id}"
    assert route_of("/elsewhere") is None


def test_a_line_of_the_log_tells_what_was_asked_and_how_long_it_took(server: Server) -> None:
    server.http.post("/predict", content=GOOD, headers={"X-Request-Id": "told"})

    def line() -> dict[str, object] | None:
        lines = [json.loads(text) for text in server.log if '"told"' in text]
        return lines[0] if lines else None

    told = eventually(line)
    expected = {"model": "tiny", "version": "1", "client": "shop", "images": 1, "bytes": len(GOOD)}
    assert told.items() >= expected.items()
    assert all(told[f"{part}_ms"] >= 0 for part in ("decode", "queue", "inference"))  # type: ignore[operator]


def test_statistics_come_in_the_forms_of_a_record(server: Server) -> None:
    server.http.post("/predict", content=GOOD)
    seen = server.http.get("/attention").json()
    picture = server.http.get("/attention", headers={"Accept": "image/png"})
    assert picture.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(picture.content)).format == "PNG"
    arrays = server.http.get("/attention", headers={"Accept": "application/x-npz"})
    with np.load(io.BytesIO(arrays.content)) as file:
        assert file["samples"] == seen["samples"]
        first = seen["stages"][0]
        name = f"{first['block']}.{first['kind']}.mean"
        np.testing.assert_allclose(file[name], first["mean"])
    assert server.http.get("/attention", headers={"Accept": "text/html"}).status_code == 406


def test_what_is_recent_obeys_the_filter(server: Server) -> None:
    answers = [
        server.http.post("/predict", content=image).json()["predictions"][0]
        for image in random_pngs(6)
    ]
    label = answers[0]["label"]
    listed = server.http.get(f"/attention?class={label}").json()["recent"]
    assert listed
    assert {entry["label"] for entry in listed} == {label}
    wrong = server.http.get("/attention?class=nobody").json()["detail"]
    assert "GET /models/tiny lists the labels" in wrong


def test_the_list_tells_what_serves_though_the_files_were_replaced(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    with Server(tmp_path, models="tiny") as server:
        server.wait_ready()
        before = server.http.get("/models/tiny").json()["versions"]
        shutil.rmtree(tmp_path / "tiny")
        publish_tiny(tmp_path, config=dataclasses.replace(TINY, num_classes=7), size=40)
        assert server.http.get("/models/tiny").json()["versions"] == before
        (listed,) = server.http.get("/models").json()["models"]
        assert (listed["loaded"], listed["classes"], listed["input"]["height"]) == (True, 10, 32)
        assert len(server.predict(GOOD, top_k=99)["predictions"]) == 10


@pytest.mark.parametrize("everybody", [False, True], ids=["its group", "each process"])
def test_a_signal_to_all_of_it_ends_it_quietly(tiny_store: Path, everybody: bool) -> None:
    """As `timeout` sends it to a group, and systemd to all processes of a service."""
    server = Server(tiny_store, models="tiny")
    server.command = ["setsid", *server.command]
    with server:
        server.wait_ready()
        others = list(server.descendants()) if everybody else []
        os.killpg(server.process.pid, signal.SIGTERM)
        for pid in others:
            os.kill(pid, signal.SIGTERM)
        assert server.process.wait(60) in (0, 143)
    assert not [line for line in server.log if "Traceback" in line or '"error"' in line]

"""What pages of others may not do through a visitor's browser."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gsop.api.http.app import create_app
from gsop.api.http.browsers import answered_hosts, name_of
from gsop.settings import Settings
from tests.support import Server, random_pngs

pytestmark = pytest.mark.slow

GOOD = random_pngs(1)[0]


@pytest.fixture(scope="module")
def server(tiny_store: Path) -> Iterator[Server]:
    with Server(
        tiny_store,
        models="tiny",
        allowed_hosts="Named.example",
        cors_origins="https://page.example",
    ) as server:
        yield server.wait_ready()


def ask(server: Server, *lines: str, version: str = "1.1", body: bytes = b"") -> tuple[int, str]:
    """The status of a request with these header lines, and the code of its problem."""
    address = urlsplit(server.url)
    method = "POST /predict" if body else "GET /models"
    head = [f"{method} HTTP/{version}", *lines, f"Content-Length: {len(body)}", "Connection: close"]
    with socket.create_connection((address.hostname, address.port or 80), 30) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + body)
        seen = b""
        while part := connection.recv(65536):
            seen += part
    text = seen.partition(b"\r\n\r\n")[2]
    status = int(seen.split(maxsplit=2)[1])
    return status, json.loads(text)["code"] if status >= 400 else ""


KNOWN = ("localhost", "LOCALHOST:80", "localhost.", "127.0.0.1:8000", "[::1]", "[::1]:8000")
NAMED = ("named.example", "named.example:8443")
OTHER = ("evil.test", "evil.test:8000", "127.0.0.1.evil.test", "localhost.evil.test", "127.0.0.2")
ODD = ("", "localhost@evil.test", "evil.test/localhost", "[::2]", "0", "localhost:80:80")


@pytest.mark.parametrize("host", KNOWN + NAMED)
def test_known_names_are_answered(server: Server, host: str) -> None:
    assert ask(server, f"Host: {host}") == (200, "")


@pytest.mark.parametrize("host", OTHER + ODD)
def test_other_names_are_not(server: Server, host: str) -> None:
    status, code = ask(server, f"Host: {host}")
    assert (status, code) in [(421, "misdirected"), (400, "invalid_request")]


def test_there_is_one_host(server: Server) -> None:
    assert ask(server) == (400, "invalid_request")
    assert ask(server, "Host: localhost", "Host: localhost") == (400, "invalid_request")
    assert ask(server, version="1.0") == (200, "")
    assert ask(server, "Host: evil.test", version="1.0") == (421, "misdirected")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], 200),
        (["Origin: http://localhost:8000"], 200),
        (["Origin: https://page.example"], 200),
        (["Origin: https://elsewhere.test", "Sec-Fetch-Site: same-origin"], 200),
        (["Origin: https://evil.test"], 403),
        (["Origin: http://localhost:3000"], 403),
        (["Origin: https://evil.test", "Sec-Fetch-Site: cross-site"], 403),
        (["Origin: null"], 403),
        (["Origin: ftp://localhost:8000"], 403),
    ],
)
def test_only_known_pages_have_something_done(
    server: Server, lines: list[str], status: int
) -> None:
    lines = ["Host: localhost:8000", "Content-Type: image/png", *lines]
    assert ask(server, *lines, body=GOOD) == (status, "foreign_origin" if status == 403 else "")


def test_looking_is_for_every_page(server: Server) -> None:
    assert ask(server, "Host: localhost", "Origin: https://evil.test") == (200, "")


@pytest.mark.parametrize("path", ["/", "/docs", "/models", "/nowhere", "/healthz", "/web/page.js"])
def test_every_answer_tells_browsers_what_not_to_do(server: Server, path: str) -> None:
    headers = server.http.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert len(headers.get_list("content-security-policy")) == 1


def test_nobody_is_sent_where_host_says(server: Server) -> None:
    answer = server.http.get("/models/?a=b", headers={"Host": "localhost:1"})
    assert (answer.status_code, answer.headers["location"]) == (308, "../models?a=b")
    for path, location in (
        ("//evil.test/", "../evil.test"),
        ("/%5Cevil.test/", "../%5Cevil.test"),
        ("/%0d%0aX:y/", "../%0D%0AX%3Ay"),
        ("/%e2%82%ac/", "../%E2%82%AC"),
    ):
        answer = server.http.get(server.url + path)
        assert (answer.status_code, answer.headers["location"]) == (308, location)
        assert "x" not in answer.headers


def test_elsewhere_names_are_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    def answered(**settings: object) -> frozenset[str] | None:
        return answered_hosts(Settings.load(**settings))

    assert answered(host="0.0.0.0") is None  # noqa: S104
    assert answered(host="0.0.0.0", allowed_hosts="a.example") == frozenset({"a.example"})  # noqa: S104
    assert answered(host="127.0.0.1", allowed_hosts="*") is None
    assert answered(host="127.0.0.1") == frozenset({"localhost", "127.0.0.1", "[::1]"})
    assert answered(host="127.0.0.3") == frozenset({"localhost", "127.0.0.1", "[::1]", "127.0.0.3"})
    assert answered(host="localhost") == frozenset({"localhost", "127.0.0.1", "[::1]"})


@pytest.mark.parametrize("host", ["a b", "a\tb", "[::1", "::1", "a@b", "", ":80", "[zz]"])
def test_what_is_no_host_has_no_name(host: str) -> None:
    assert name_of(host) is None


def test_the_openapi_text_tells_of_it() -> None:
    for path, operations in create_app().openapi()["paths"].items():
        for method, operation in operations.items():
            told = operation["responses"]
            assert re.search("misdirected", told["421"]["description"]), path
            assert ("foreign_origin" in str(told.get("403"))) == (method != "get"), path

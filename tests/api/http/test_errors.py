"""Every bad request gets its status and code, and the next good one is served."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from gsop.api.http.schemas import Problem
from tests.support import Server, random_pngs

pytestmark = pytest.mark.slow

GOOD = random_pngs(1)[0]
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def server(tiny_store: Path) -> Iterator[Server]:
    with Server(tiny_store, models="tiny") as server:
        yield server.wait_ready()


def encoded(form: str, mode: str = "RGB", size: tuple[int, int] = (40, 30), **save: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, form, **save)
    return file.getvalue()


def header_of(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "empty body": ({"content": b"", "headers": PNG}, 400, "invalid_request"),
    "truncated": ({"content": GOOD[: len(GOOD) // 2], "headers": PNG}, 400, "invalid_image"),
    "text as JPEG": (
        {"content": b"hello, I am text", "headers": {"Content-Type": "image/jpeg"}},
        400,
        "invalid_image",
    ),
    "40 000 x 40 000 by header": (
        {"content": header_of(40_000, 40_000), "headers": PNG},
        413,
        "image_too_large",
    ),
    "a text": (
        {"content": b"hello, I am text", "headers": {"Content-Type": "text/plain"}},
        415,
        "unsupported_media_type",
    ),
    "curl -d in place of --data-binary": (
        {
            "content": GOOD.replace(b"\r", b"").replace(b"\n", b""),
            "headers": {"Content-Type": "application/x-www-form-urlencoded"},
        },
        400,
        "invalid_image",
    ),
    "compressed body": (
        {"content": zlib.compress(GOOD), "headers": PNG | {"Content-Encoding": "deflate"}},
        415,
        "unsupported_media_type",
    ),
    "11 MB body": ({"content": b"x" * 11_000_000, "headers": PNG}, 413, "body_too_large"),
    "11 MB body in chunks": (
        {"content": (b"x" * 100_000 for _ in range(110)), "headers": PNG},
        413,
        "body_too_large",
    ),
    "broken multipart": (
        {
            "content": b"--b\r\nContent-Disposition: form-data; na",
            "headers": {"Content-Type": "multipart/form-data; boundary=b"},
        },
        400,
        "invalid_request",
    ),
    "multipart that is none": (
        {"content": b"hello", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        400,
        "invalid_request",
    ),
    "multipart without boundary": (
        {"content": b"hello", "headers": {"Content-Type": "multipart/form-data"}},
        400,
        "invalid_request",
    ),
    "multipart without image": ({"files": {"picture": GOOD}}, 400, "invalid_request"),
    "multipart with an empty image": ({"files": {"image": b""}}, 400, "invalid_image"),
    "too many images": ({"files": [("image", GOOD)] * 33}, 400, "invalid_request"),
    "broken base64": ({"json": {"image": "@@@not base64@@@"}}, 400, "invalid_request"),
    "empty base64": ({"json": {"image": ""}}, 400, "invalid_request"),
    "JSON without image": ({"json": {"top_k": 3}}, 400, "invalid_request"),
    "JSON with an unknown member": ({"json": {"picture": "QUJD"}}, 422, "invalid_parameter"),
    "JSON of a list": ({"json": ["QUJD"]}, 400, "invalid_request"),
    "broken JSON": (
        {"content": b'{"image": ', "headers": {"Content-Type": "application/json"}},
        400,
        "invalid_request",
    ),
    "top_k of zero": ({"content": GOOD, "headers": PNG, "params": {"top_k": 0}}, 422, ""),
    "top_k of words": ({"content": GOOD, "headers": PNG, "params": {"top_k": "all"}}, 422, ""),
    "unknown parameter": ({"content": GOOD, "headers": PNG, "params": {"topk": 1}}, 422, ""),
    "timeout of zero": ({"content": GOOD, "headers": PNG, "params": {"timeout_ms": 0}}, 422, ""),
    "unknown model": (
        {"content": GOOD, "headers": PNG, "params": {"model": "nobody"}},
        404,
        "unknown_model",
    ),
    "unknown version": (
        {"content": GOOD, "headers": PNG, "params": {"version": "99"}},
        404,
        "unknown_model",
    ),
}


@pytest.mark.parametrize(("request_", "status", "code"), BAD.values(), ids=BAD)
def test_bad_requests_get_their_code(
    server: Server, request_: dict[str, Any], status: int, code: str
) -> None:
    answer = server.http.post("/predict", **request_)
    check_problem(answer, status, code or "invalid_parameter")
    assert server.predict(GOOD)["predictions"]


def check_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate_json(answer.content)
    assert (answer.status_code, problem.status, problem.code) == (status, status, code)
    assert problem.detail
    for internal in ("0x", "Traceback", "/app/", ".py", "PIL"):
        assert internal not in problem.detail


def odd_but_good() -> dict[str, bytes]:
    frames = [Image.new("P", (20, 20), color) for color in (0, 1)]
    animated = io.BytesIO()
    frames[0].save(animated, "GIF", save_all=True, append_images=frames[1:])
    deep = io.BytesIO()
    Image.fromarray(np.full((20, 20), 40_000, np.uint16)).save(deep, "PNG")
    return {
        "1x1": encoded("PNG", size=(1, 1)),
        "1x1000": encoded("PNG", size=(1, 1000)),
        "animated GIF": animated.getvalue(),
        "CMYK JPEG": encoded("JPEG", "CMYK"),
        "16-bit PNG": deep.getvalue(),
        "grey JPEG": encoded("JPEG", "L"),
        "palette PNG": encoded("PNG", "P"),
        "transparent WebP": encoded("WEBP", "RGBA"),
        "TIFF": encoded("TIFF"),
        "BMP": encoded("BMP"),
    }


@pytest.mark.parametrize("name", odd_but_good())
def test_odd_images_are_answered(server: Server, name: str) -> None:
    assert len(server.predict(odd_but_good()[name])["predictions"]) == 5


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/attention/never-was", 404, "unknown_prediction"),
        ("GET", "/attention?stage=layer9", 422, "invalid_parameter"),
        ("GET", "/attention?class=zebra", 422, "invalid_parameter"),
        ("GET", "/attention?model=nobody", 404, "unknown_model"),
        ("GET", "/models/nobody", 404, "unknown_model"),
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/predict", 405, "method_not_allowed"),
    ],
)
def test_other_calls_fail_as_problems_too(
    server: Server, method: str, path: str, status: int, code: str
) -> None:
    check_problem(server.http.request(method, path), status, code)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/predict", {"model": "x" * 10**6, "image": "AAAA"}, 404),
        ("/predict", {"images": ["AAAA"], "version": "\1" * 10**6}, 404),
        ("/v2/models/tiny/infer", {"inputs": [], "id": "x" * 10**6}, 400),
        (
            "/v2/models/tiny/infer",
            {"inputs": [{"name": "\1" * 10**6, "datatype": "BYTES", "shape": [-1]}]},
            400,
        ),
    ],
)
def test_no_error_quotes_a_body_at_length(
    server: Server, path: str, body: dict[str, Any], status: int
) -> None:
    answer = server.http.post(path, json=body)
    assert answer.status_code == status
    assert len(answer.content) < 30_000


def test_a_form_that_is_not_offered_is_406(server: Server) -> None:
    id_ = server.predict(GOOD)["id"]
    answer = server.http.get(f"/attention/{id_}", headers={"Accept": "text/html"})
    check_problem(answer, 406, "not_acceptable")


def test_errors_are_counted_by_their_status_and_code(server: Server) -> None:
    labels = {"route": "/predict", "status": "400"}
    before = server.metric("gsop_requests_total", **labels)
    images = server.metric("gsop_images_total", result="invalid_image")
    server.http.post("/predict", content=b"nothing", headers=PNG)
    assert server.metric("gsop_requests_total", **labels) == before + 1
    assert server.metric("gsop_images_total", result="invalid_image") == images + 1


def test_statistics_are_null_before_the_first_sample(tiny_store: Path) -> None:
    with Server(tiny_store, models="tiny") as server:
        server.wait_ready()
        seen = server.http.get("/attention").json()
    assert seen["samples"] == 0
    assert seen["recent"] == []
    assert all(stage["mean"] is None and stage["max"] is None for stage in seen["stages"])


def test_openapi_documents_every_code(server: Server) -> None:
    text = server.http.get("/openapi.json").json()
    responses = text["paths"]["/predict"]["post"]["responses"]
    documented = {
        (int(status), code)
        for status, entry in responses.items()
        for code in entry["content"].get("application/problem+json", {}).get("examples", {})
    }
    sent = {(status, code or "invalid_parameter") for _, status, code in BAD.values()}
    assert sent <= documented
    assert {429, 500, 503, 504} <= {status for status, _ in documented}

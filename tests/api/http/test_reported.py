"""Public reports of what clients and proxies sent to services of this kind, tried here.

Each case is called by the repository and the number of its report; docs/reliability.md lists them,
and those of ``tests/test_reported.py``.
"""

import base64
import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import numpy as np
import pytest

from tests.imagery import encode, picture
from tests.support import Server

pytestmark = pytest.mark.slow

SCENE = picture(48, 64)
JPEG = encode(SCENE, "JPEG")
PNG = encode(SCENE, "PNG")
TEXT = base64.b64encode(PNG).decode()
FORM = "multipart/form-data; boundary=edge"
URLENCODED = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def server(tiny_store: Path) -> Iterator[Server]:
    with Server(tiny_store, models="tiny") as server:
        yield server.wait_ready()


@pytest.fixture(scope="module")
def expected(server: Server) -> Any:
    return like(server.http.post("/predict", content=PNG).json())


def predictions(answer: dict[str, Any]) -> dict[int, float]:
    return {p["class_id"]: p["probability"] for p in answer["predictions"]}


def like(answer: dict[str, Any]) -> Any:
    return pytest.approx(predictions(answer), abs=1e-4)


def part(head: str, *, boundary: str = "edge", image: bytes = PNG) -> bytes:
    """A form of one part, with that head."""
    return b"--%b\r\n%b\r\n\r\n%b\r\n--%b--\r\n" % (
        boundary.encode(),
        head.encode(),
        image,
        boundary.encode(),
    )


class Sent(NamedTuple):
    """A request."""

    body: bytes
    kind: str = ""
    path: str = "/predict"


def member(text: str) -> bytes:
    return json.dumps({"image": text}).encode()


DISPOSITION = 'Content-Disposition: form-data; name="image"'
UNPADDED = TEXT.rstrip("=")

ANSWERED = {
    "fastapi/fastapi#1014": Sent(part(f'{DISPOSITION}; filename="汉.png"'), FORM),
    "fastapi/fastapi#11104": Sent(
        part(f"{DISPOSITION}; filename*=utf-8''%E6%B1%89.png\r\nContent-Type: image/png"), FORM
    ),
    "linagora/openrag#368": Sent(part(DISPOSITION), FORM),
    "scalar/scalar#7883": Sent(part(f'{DISPOSITION}; filename="a.png"'), "multipart/form-data"),
    "farmisen/react-native-file-uploader#15": Sent(
        part(f'{DISPOSITION}; filename="a.png"', boundary="***edge***"),
        "multipart/form-data; boundary=***edge***",
    ),
    "fastapi/fastapi#13019": Sent(part(f'{DISPOSITION}; filename="a.png"'), FORM, "/predict/"),
    "awslabs/multi-model-server#425": Sent(urlencode({"image": UNPADDED}).encode(), URLENCODED),
    "runpod-workers/worker-comfyui#126": Sent(f"image={TEXT}".encode(), URLENCODED),
    "matatonic/openedai-vision#4": Sent(
        member(f"data:image/png;base64,{UNPADDED}"), "application/json"
    ),
    "Acly/comfyui-tooling-nodes#39": Sent(
        member(f"data:image/png;base64,{TEXT}"), "application/json"
    ),
}


@pytest.mark.parametrize("report", ANSWERED)
def test_it_is_answered(server: Server, expected: Any, report: str) -> None:
    body, kind, path = ANSWERED[report]
    headers = {"Content-Type": kind} if kind else {}
    answer = server.http.post(path, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert predictions(answer.json()) == expected


def test_instructure_canvas_lms_1206(server: Server) -> None:
    """A JPEG that the telephone's program has called HEIC."""
    wanted = server.http.post("/predict", content=JPEG).json()
    files = {"image": ("IMG_1206.HEIC", JPEG, "image/heic")}
    answer = server.http.post("/predict", files=files)
    assert predictions(answer.json()) == like(wanted)


@pytest.mark.parametrize(
    "alpha",
    [
        pytest.param(np.uint8(255), id="IBM/MAX-Scene-Classifier#22"),
        pytest.param(np.uint8(0), id="onepanelio/onepanel#819"),
    ],
)
def test_a_picture_with_alpha(server: Server, expected: Any, alpha: np.uint8) -> None:
    """As without, where it is whole; as a white one, where it is clear."""
    data = encode(np.dstack([SCENE, np.full(SCENE.shape[:2], alpha)]), "PNG")
    answer = server.http.post("/predict", content=data)
    assert answer.status_code == 200
    if not alpha:
        white = encode(np.full_like(SCENE, 255), "PNG")
        expected = like(server.http.post("/predict", content=white).json())
    assert predictions(answer.json()) == expected


def test_fastapi_fastapi_3306(server: Server) -> None:
    """The field is called otherwise: what it has to be called is said."""
    answer = server.http.post("/predict", files={"file": ("1.jpg", JPEG, "image/jpeg")})
    assert answer.status_code == 400
    assert "no field named 'image' but 'file': rename it" in answer.json()["detail"]


def test_psf_requests_3051(server: Server) -> None:
    """An empty file, in chunks of which there is none."""
    answer = server.http.post("/predict", content=iter(()))
    assert answer.status_code == 400
    assert "send" in answer.json()["detail"]


def test_karlseguin_http_zig_170(server: Server, expected: Any) -> None:
    """No Content-Length, but chunks."""
    answer = server.http.post("/predict", content=iter((PNG[:100], PNG[100:])))
    assert predictions(answer.json()) == expected


@pytest.fixture
def connection(server: Server) -> Iterator[http.client.HTTPConnection]:
    address = urlsplit(server.url)
    made = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
    yield made
    made.close()


def test_kserve_kserve_5446(connection: http.client.HTTPConnection, expected: Any) -> None:
    """A proxy keeps connections longer than uvicorn's 5 s."""
    for wait in (6, 0):
        connection.request("POST", "/predict", PNG)
        answer = connection.getresponse()
        assert answer.status == 200
        assert predictions(json.loads(answer.read())) == expected
        socket_before = connection.sock
        time.sleep(wait)
    assert connection.sock is socket_before is not None


def test_kludex_uvicorn_344(server: Server, expected: Any) -> None:
    """Requests that do not wait for the answer to the one before."""
    address = urlsplit(server.url)
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%b\r\n"
    first, last = (head % (len(PNG), more) + PNG for more in (b"", b"Connection: close\r\n"))
    with socket.create_connection((str(address.hostname), address.port), 60) as stream:
        stream.sendall(first * 2 + last)
        received = b"".join(iter(lambda: stream.recv(2**16), b""))
    answers = [piece.partition(b"\r\n\r\n")[2] for piece in received.split(b"HTTP/1.1 200 OK")[1:]]
    assert [predictions(json.loads(answer)) for answer in answers] == [expected] * 3


def test_kludex_uvicorn_2375(server: Server) -> None:
    """Who wants the connection closed gets his answer first."""
    address = urlsplit(server.url)
    with socket.create_connection((str(address.hostname), address.port), 60) as stream:
        stream.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        received = b"".join(iter(lambda: stream.recv(2**16), b""))
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in received.lower()

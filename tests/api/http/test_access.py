"""API keys at the door: who is let in, who sees whose gates, and what stays unsaid."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from gsop.api.http.access import OPEN, sufficient
from gsop.api.http.app import create_app
from gsop.api.http.schemas import Problem
from gsop.keys import make_key
from tests.support import Server, eventually, random_pngs

pytestmark = pytest.mark.slow

IMAGES = random_pngs(4)
PNG = {"Content-Type": "image/png"}
KEYS = {
    "shop": make_key("shop", ["predict"]),
    "lab": make_key("lab", ["predict", "attention"]),
    "rival": make_key("rival", ["predict", "attention"]),
    "audit": make_key("audit", ["admin"]),
}


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name][0]}"}


@pytest.fixture(scope="module")
def server(tiny_store: Path) -> Iterator[Server]:
    entries = ",".join(str(entry) for _, entry in KEYS.values())
    with Server(tiny_store, models="tiny", api_keys=entries, log_level="debug") as server:
        yield server.wait_ready()


def predict(server: Server, name: str, image: bytes = IMAGES[0]) -> httpx.Response:
    return server.http.post("/predict", content=image, headers=PNG | bearer(name))


CALLS = {
    "predict": ("POST", "/predict"),
    "gates with it": ("POST", "/predict?attention=true"),
    "statistics": ("GET", "/attention"),
    "of a class": ("GET", "/attention?class=1"),
    "models": ("GET", "/models"),
    "metrics": ("GET", "/metrics"),
    "nowhere": ("GET", "/nowhere"),
}


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("shop", {"predict", "models"}),
        ("lab", {"predict", "gates with it", "statistics", "models"}),
        ("audit", set(CALLS)),
    ],
)
def test_scopes_say_what_a_key_may_do(server: Server, name: str, allowed: set[str]) -> None:
    answers = {
        call: server.http.request(
            method,
            path,
            content=IMAGES[0] if method == "POST" else None,
            headers=PNG | bearer(name),
        )
        for call, (method, path) in CALLS.items()
    }
    refused = {call: answer for call, answer in answers.items() if answer.status_code == 403}
    assert set(CALLS) - set(refused) == allowed
    assert {a.status_code for c, a in answers.items() if c in allowed} <= {200, 404}
    for answer in refused.values():
        assert Problem.model_validate_json(answer.content).code == "forbidden"


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer gsop_" + "A" * 43},
        {"Authorization": f"Basic {KEYS['audit'][0]}"},
        {"Authorization": f"Bearer {KEYS['audit'][1].sha256}"},  # the hash opens nothing
        {"Authorization": b"Bearer \xff\xfe"},
        {"X-API-Key": KEYS["audit"][0]},
    ],
    ids=range(8),
)
@pytest.mark.parametrize("call", CALLS)
def test_without_a_known_key_every_call_is_401(
    server: Server, header: dict[str, str | bytes], call: str
) -> None:
    method, path = CALLS[call]
    answer = server.http.request(method, path, headers=header)  # type: ignore[arg-type]
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.headers["X-Request-Id"]
    assert Problem.model_validate_json(answer.content).code == "unauthorized"


def test_probes_and_documents_are_open(server: Server) -> None:
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
        assert server.http.get(path).status_code == 200
    # Neither a second slash nor an encoded one leads past the door.
    for path in ("//metrics", "/docs/../metrics", "/docs%2f..%2fmetrics", "/%6detrics"):
        address = urlsplit(server.url)
        connection = HTTPConnection(address.hostname or "", address.port)  # sends the path as it is
        with closing(connection):
            connection.request("GET", path)
            assert connection.getresponse().status == 401


def test_gates_are_shown_to_the_key_that_asked_and_to_admin(server: Server) -> None:
    mine, theirs = (predict(server, name).json()["id"] for name in ("lab", "rival"))

    def status(name: str, id_: str) -> int:
        return server.http.get(f"/attention/{id_}", headers=bearer(name)).status_code

    assert [status("lab", mine), status("rival", theirs)] == [200, 200]
    assert [status("lab", theirs), status("rival", mine)] == [404, 404]
    assert [status("audit", mine), status("audit", theirs)] == [200, 200]


def test_statistics_count_only_ones_own(server: Server) -> None:
    def seen(name: str) -> tuple[int, set[str]]:
        answer = server.http.get("/attention", headers=bearer(name)).json()
        return answer["samples"], {entry["id"] for entry in answer["recent"]}

    (mine, _), (theirs, _), (everybody, _) = seen("lab"), seen("rival"), seen("audit")
    ids = {predict(server, "lab", image).json()["id"] for image in IMAGES}
    shop = predict(server, "shop").json()["id"]
    assert seen("lab")[0] == mine + 4
    assert seen("rival")[0] == theirs
    assert seen("audit")[0] == everybody + 5
    assert ids <= seen("lab")[1]
    assert not seen("rival")[1] & (ids | {shop})
    assert ids | {shop} <= seen("audit")[1]


def test_a_refusal_needs_no_body_and_the_connection_goes_on(server: Server) -> None:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for _ in range(3):
            assert client.post("/predict", content=b"x" * 500_000, headers=PNG).status_code == 401
        assert client.get("/readyz").status_code == 200
    assert predict(server, "shop").status_code == 200


def test_no_key_is_written_anywhere(server: Server) -> None:
    server.http.get("/metrics", headers=bearer("shop"))
    server.http.get("/metrics", headers={"Authorization": "Bearer a-wrong-key"})
    log = "".join(server.log)
    assert not [name for name, (key, _) in KEYS.items() if key in log]
    assert "a-wrong-key" not in log


def test_metrics_and_changes_are_for_admin_alone() -> None:
    for path, operations in create_app().openapi()["paths"].items():
        for method in operations:
            changes = path.startswith("/models/") and method != "get"
            for_admin = path in ("/metrics", "/status") or changes or _is_like_them(path)
            assert path in OPEN or (len(sufficient(path, method)) == 1) == for_admin, path
    assert sufficient("/v2/models/stats/infer", "POST") == sufficient("/predict", "POST")
    assert sufficient("/v2/else", "GET") == {"admin"}


def _is_like_them(path: str) -> bool:
    """Whether a call of the Open Inference Protocol tells counts, or changes what is loaded."""
    return path.startswith("/v2/") and path.endswith(("/stats", "/load", "/unload"))


def test_openapi_says_which_calls_need_a_key(server: Server) -> None:
    text = server.http.get("/openapi.json").json()
    assert text["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, operations in text["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) == (path not in OPEN)
            assert ({"401", "403"} <= set(operation["responses"])) == (path not in OPEN)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104  # refused
def test_a_public_address_without_keys_is_refused(tiny_store: Path, host: str) -> None:
    status, lines = Server(tiny_store, models="tiny", host=host).run_to_end()
    assert status == 1
    (error,) = [line for line in lines if line.startswith("gsop: error:")]
    assert "GSOP_API_KEYS" in error
    assert "GSOP_ALLOW_ANONYMOUS=true" in error


@pytest.mark.parametrize("settings", [{"allow_anonymous": "true"}, {"api_keys": KEYS["lab"][1]}])
def test_a_public_address_is_served_where_somebody_said_so(
    tiny_store: Path, settings: dict[str, object]
) -> None:
    # 0.0.0.0 inside of the test's machine; nothing is sent beyond it.
    with Server(tiny_store, models="tiny", host="0.0.0.0", **settings) as server:  # noqa: S104
        assert server.http.get("/healthz").status_code == 200


def test_keys_come_and_go_without_a_restart(tiny_store: Path, tmp_path: Path) -> None:
    names = ("stays", "goes", "comes")
    keys = {name: make_key(name, ["predict", "admin"]) for name in names}
    entry = {name: str(entry) for name, (_, entry) in keys.items()}
    _, over = make_key("over", ["predict"], date(2020, 1, 1))
    file = tmp_path / "keys"
    file.write_text("\n".join([entry["stays"], entry["goes"], str(over)]))
    with Server(tiny_store, models="tiny", api_keys_file=file, rate_per_key=500) as server:
        server.wait_ready()

        def status(name: str) -> int:
            headers = PNG | {"Authorization": f"Bearer {keys[name][0]}"}
            return server.http.post("/predict", content=IMAGES[0], headers=headers).status_code

        assert [status(name) for name in names] == [200, 200, 401]
        new = tmp_path / "new"
        new.write_text("\n".join([entry["comes"], entry["stays"]]))
        ended, seen = threading.Event(), []

        def load() -> None:
            while not ended.is_set():
                seen.append(status("stays"))

        with ThreadPoolExecutor() as pool:
            loading = pool.submit(load)
            withdrawn = {"Authorization": f"Bearer {keys['goes'][0]}"}
            new.replace(file)
            eventually(
                lambda: server.http.get("/models", headers=withdrawn).status_code == 401,
                seconds=1.0,  # as SECURITY.md says
            )
            assert status("goes") == 401
            assert status("comes") == 200
            ended.set()
            loading.result()
        assert set(seen) == {200}
        server.http.headers["Authorization"] = f"Bearer {keys['stays'][0]}"
        promoted = server.http.post("/models/tiny/promote")
        assert promoted.status_code >= 400
        used = server.metric("gsop_key_last_used_timestamp_seconds", key="stays")
        assert abs(time.time() - used) < 60
        log = "".join(server.log)
        assert "added ['comes'], withdrawn ['goes', 'over']" in log
        (line,) = [line for line in server.log if "an operator's call" in line]
        assert '"client":"stays"' in line.replace(" ", "")
        assert "/models/{name}/promote" in line


def test_a_key_is_held_to_its_rate(tiny_store: Path) -> None:
    (busy, entry), (calm, other) = (make_key(name, ["predict"]) for name in ("busy", "calm"))
    with Server(tiny_store, models="tiny", api_keys=f"{entry},{other}", rate_per_key=0.5) as server:
        server.wait_ready()

        def ask(key: str) -> httpx.Response:
            return server.http.get("/models", headers={"Authorization": f"Bearer {key}"})

        answers = [ask(busy) for _ in range(4)]
        assert answers[0].status_code == 200
        assert answers[-1].json()["code"] == "rate_limited"
        assert int(answers[-1].headers["Retry-After"]) >= 1
        assert ask(calm).status_code == 200

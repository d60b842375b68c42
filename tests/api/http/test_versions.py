"""Versions that change while a real service serves."""

import json
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from gsop.__main__ import main
from gsop.keys import make_key
from tests.chaos.swaps import GOOD, publish_versions
from tests.failing_backends import NAN
from tests.imagery import encode
from tests.stores import publish_tiny
from tests.support import START_SECONDS, Server, eventually, in_background, random_pngs, send_all

pytestmark = pytest.mark.slow

IMAGES = random_pngs(8)
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tiny`` with good versions and bad ones, and ``second``, another model."""
    root = tmp_path_factory.mktemp("versions")
    publish_versions(root)
    publish_tiny(root, name="second", seed=5)
    return root


@pytest.fixture(scope="module")
def running(store: Path) -> Iterator[Server]:
    with Server(store, models="tiny/1", fronts=2, slots=1024) as server:
        yield server.wait_ready()


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    """Version 1 of ``tiny`` alone is loaded, and gets all requests."""
    yield running
    put(running, {"stable": "1"})
    for version in loaded(running) - {("tiny", "1")}:
        unload(running, *version)
    eventually(lambda: len(engines(running)) == 1)  # the one before has been left


def engines(server: Server) -> list[int]:
    return [pid for pid, name in server.descendants().items() if name == "gsop-engine-0"]


def load(server: Server, version: str, name: str = "tiny", **options: str) -> Any:
    """The answer, once the service has done with the versions that it starts with."""
    path = f"/models/{name}/versions/{version}/load"

    def answer() -> Any:
        found = server.http.post(path, json=options or None)
        return None if "starts with are still being loaded" in found.text else found

    return eventually(answer)


def unload(server: Server, name: str, version: str, **query: bool) -> Any:
    return server.http.post(f"/models/{name}/versions/{version}/unload", params=query)


def put(server: Server, traffic: Mapping[str, object], etag: str | None = None) -> Any:
    etag = etag or server.http.get("/models/tiny").headers["ETag"]
    return server.http.put("/models/tiny/traffic", json=traffic, headers={"If-Match": etag})


def loaded(server: Server) -> set[tuple[str, str]]:
    models = server.http.get("/models").json()["models"]
    return {(m["name"], m["version"]) for m in models if m["loaded"]}


def state(server: Server, version: str) -> str | None:
    versions = server.http.get("/models/tiny").json()["versions"]
    (found,) = [v["state"] for v in versions if v["version"] == version]
    return None if found is None else str(found)


def answered_by(server: Server, count: int, **headers: str) -> Counter[tuple[str, str]]:
    """Version and role of answers."""
    found: Counter[tuple[str, str]] = Counter()
    for number in range(count):
        image = IMAGES[number % len(IMAGES)]
        answer = server.http.post("/predict", content=image, headers=PNG | headers).json()
        found[answer["model"]["version"], answer["role"]] += 1
    return found


def test_a_version_is_loaded_and_serves_beside_the_other(server: Server) -> None:
    before = server.predict(IMAGES[0])
    answer = load(server, "2")
    assert answer.status_code == 200, answer.text
    assert (answer.json()["state"], state(server, "2")) == ("ready", "ready")
    assert answer.json()["seconds"] > 0
    assert answer.json()["engines_memory_bytes"] > 10 * 2**20
    assert loaded(server) == {("tiny", "1"), ("tiny", "2")}
    assert answered_by(server, 8) == {("1", "stable"): 8}, "it has no share yet"
    named = server.predict(IMAGES[0], version="2")
    assert (named["model"]["version"], named["role"]) == ("2", "requested")
    assert named["predictions"] != before["predictions"]
    assert server.predict(IMAGES[0])["predictions"] == before["predictions"]


def test_shares_are_in_force_at_once(server: Server) -> None:
    load(server, "2")
    put(server, {"stable": "1", "canary": "2", "percent": 100})
    assert answered_by(server, 6) == {("2", "canary"): 6}
    put(server, {"stable": "1", "canary": "2", "percent": 0})
    assert answered_by(server, 6) == {("1", "stable"): 6}
    put(server, {"stable": "1", "canary": "2", "percent": 50, "sticky": "header:X-User"})
    by_user = {user: answered_by(server, 3, **{"X-User": user}) for user in "abcdefghijkl"}
    assert all(len(found) == 1 for found in by_user.values()), "a user keeps its version"
    assert len({next(iter(found)) for found in by_user.values()}) == 2


def test_the_share_is_kept_over_many_requests(server: Server) -> None:
    load(server, "2")
    put(server, {"stable": "1", "canary": "2", "percent": 20})
    before = server.metric("gsop_predictions_total", role="canary", result="ok")
    join = in_background(send_all(server.url, IMAGES, clients=16, requests=1500))
    join()
    canary = server.metric("gsop_predictions_total", role="canary", result="ok") - before
    assert abs(canary - 300) < 5 * 15.5  # five standard deviations of Binomial(1500, 0.2)
    eventually(lambda: server.http.get("/models/tiny").json()["canary_percent"])
    assert abs(server.http.get("/models/tiny").json()["canary_percent"] - 20) < 6


def test_promoted_rolled_back_unloaded(server: Server) -> None:
    load(server, "2")
    put(server, {"stable": "1", "canary": "2", "percent": 5})
    assert server.http.post("/models/tiny/promote").json()["stable"] == "2"
    assert answered_by(server, 4) == {("2", "stable"): 4}
    assert server.http.post("/models/tiny/rollback").json()["stable"] == "1"
    assert answered_by(server, 4) == {("1", "stable"): 4}
    assert unload(server, "tiny", "2").status_code == 200
    eventually(lambda: state(server, "2") == "unloaded")
    assert server.http.post("/predict?version=2", content=IMAGES[0], headers=PNG).status_code == 404
    changes = [change["what"] for change in server.http.get("/models/tiny").json()["changes"]]
    assert changes[0] == "2 unloaded"
    assert "2 rolled back to 1: asked for" in changes[1]


def test_one_who_changes_what_is_no_more_is_refused(server: Server) -> None:
    load(server, "2")
    etag = server.http.get("/models/tiny").headers["ETag"]
    assert put(server, {"stable": "2"}, etag).status_code == 200
    assert put(server, {"stable": "1"}, etag).status_code == 412
    assert put(server, {"stable": "1"}, "*").status_code == 200, "whatever there is"
    untagged = server.http.put("/models/tiny/traffic", json={"stable": "1"})
    assert (untagged.status_code, untagged.json()["code"]) == (428, "precondition_required")
    stale = server.http.post("/models/tiny/rollback", headers={"If-Match": etag})
    assert stale.status_code == 412


@pytest.mark.parametrize(
    ("version", "reason"),
    [("corrupt", "has SHA-256"), ("nan", "NaN or infinity"), ("too-large", "no room")],
)
def test_what_cannot_serve_never_does_and_nothing_else_suffers(
    server: Server, version: str, reason: str
) -> None:
    before = engines(server)
    answer = load(server, version)
    assert (answer.status_code, answer.json()["code"]) == (422, "load_failed")
    assert reason in answer.json()["detail"]
    assert state(server, version) == "failed"
    assert answered_by(server, 4) == {("1", "stable"): 4}
    eventually(lambda: engines(server) == before)


def test_refusals(server: Server) -> None:
    assert load(server, "9").status_code == 404
    assert load(server, "2", sha256="0" * 64).status_code == 409
    assert load(server, "1").status_code == 200, "it is there"
    assert unload(server, "tiny", "1").status_code == 409
    assert unload(server, "tiny", "3").status_code == 404
    load(server, "2")
    put(server, {"stable": "1", "canary": "2", "percent": 5})
    assert unload(server, "tiny", "2").status_code == 409
    assert unload(server, "tiny", "2", force=True).status_code == 200
    assert server.http.get("/models/tiny").json()["traffic"]["canary"] is None
    assert put(server, {"stable": "3"}).status_code == 409
    for body in ({"stable": "1", "canary": "2", "percent": 200}, {"canary": "2"}, {}):
        assert put(server, body).status_code == 422
    assert server.http.get("/models/nobody/comparison").status_code == 404


def test_whoever_asks_for_the_same_load_joins_it_and_others_are_refused(server: Server) -> None:
    answers: list[int] = []
    asked = [
        threading.Thread(target=lambda: answers.append(load(server, "2").status_code))
        for _ in range(3)
    ]
    for thread in asked:
        thread.start()
    eventually(lambda: state(server, "2") in ("loading", "warming"))
    other = load(server, "3")
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    for thread in asked:
        thread.join()
    assert answers == [200, 200, 200]
    changes = server.http.get("/models/tiny").json()["changes"]
    assert sum(change["what"].startswith("2 loaded") for change in changes[:2]) == 1


def test_records_statistics_and_counters_outlive_a_change(server: Server) -> None:
    answers = [server.predict(image) for image in IMAGES]
    before = server.http.get("/attention").json()
    counted = server.metric("gsop_predictions_total", version="1", result="ok")
    load(server, "2")
    eventually(lambda: server.http.get("/attention").json()["samples"] == before["samples"])
    after = server.http.get("/attention").json()
    assert after["stages"] == before["stages"]
    assert [r["id"] for r in after["recent"]] == [r["id"] for r in before["recent"]]
    for answer in answers:
        kept = server.http.get(f"/attention/{answer['id']}").json()
        assert kept["predictions"] == answer["predictions"]
    assert server.metric("gsop_predictions_total", version="1", result="ok") == counted
    server.predict(IMAGES[0])
    assert server.http.get("/attention").json()["samples"] == before["samples"] + 1


def test_a_shadow_is_compared_and_seen_by_nobody(server: Server) -> None:
    load(server, "2")
    samples = server.http.get("/attention?version=2").json()["samples"]
    put(server, {"stable": "1", "shadow": "2"})
    assert answered_by(server, 40) == {("1", "stable"): 40}

    def report() -> Any:
        found = server.http.get("/models/tiny/comparison").json()["comparisons"]
        return found[0] if found and found[0]["pairs"] >= 20 else None

    found = eventually(report)
    assert (found["stable"]["version"], found["other"]["version"]) == ("1", "2")
    assert found["role"] == "shadow"
    assert found["agreement"]["low"] <= found["agreement"]["value"] <= found["agreement"]["high"]
    assert found["probability_change"]["value"] > 0, "they are different networks"
    assert found["gate_distance"]["value"] > 0
    assert found["other"]["failures"] == 0
    assert server.http.get("/attention?version=2").json()["samples"] == samples
    assert server.metric("gsop_predictions_total", role="shadow", version="2", result="ok") >= 20
    names = {"model": "tiny", "version": "2", "role": "shadow"}
    assert server.metric("gsop_comparison_pairs", **names) >= 20


def test_a_version_beside_itself_agrees_in_everything(server: Server, store: Path) -> None:
    if not (store / "tiny" / "same").exists():
        publish_tiny(store, version="same", seed=0)
    load(server, "same")
    put(server, {"stable": "1", "canary": "same", "percent": 50})
    answered_by(server, 40)

    def report() -> Any:
        found = server.http.get("/models/tiny/comparison").json()["comparisons"]
        pairs = [one for one in found if one["other"]["version"] == "same" and one["pairs"] >= 5]
        return pairs[0] if pairs else None

    found = eventually(report)
    assert found["agreement"]["value"] == 1, found
    assert found["probability_change"]["value"] < 1e-6
    assert found["gate_distance"]["value"] < 1e-6


def test_another_model_comes_and_goes(server: Server) -> None:
    assert load(server, "1", name="second").status_code == 200
    assert server.predict(IMAGES[0], model="second")["role"] == "stable"
    assert server.predict(IMAGES[0])["model"]["name"] == "tiny", "the default stays"
    assert unload(server, "second", "1").status_code == 200
    answer = server.http.post("/predict?model=second", content=IMAGES[0], headers=PNG)
    assert answer.status_code == 404


def test_where_there_is_no_room_for_two_the_old_one_goes_first(server: Server) -> None:
    engine = server.child("gsop-engine-0")
    join = in_background(send_all(server.url, IMAGES, clients=4, requests=200))
    assert load(server, "2", policy="resource").status_code == 200
    join()
    assert server.child("gsop-engine-0") != engine
    assert load(server, "nan", policy="resource").status_code == 422
    assert answered_by(server, 4) == {("1", "stable"): 4}, "what was there came back"
    assert loaded(server) == {("tiny", "1"), ("tiny", "2")}


def test_an_engine_that_dies_in_a_later_generation_is_replaced(server: Server) -> None:
    load(server, "2")
    eventually(lambda: len(engines(server)) == 1)
    os.kill(server.child("gsop-engine-0"), signal.SIGKILL)
    assert answered_by(server, 8) == {("1", "stable"): 8}


def test_a_front_that_dies_meanwhile_comes_back_in_the_next_generation(server: Server) -> None:
    def ask() -> None:
        with suppress(httpx.RemoteProtocolError):  # it may be that front which is asked
            assert load(server, "2").status_code == 200

    thread = threading.Thread(target=ask)
    thread.start()
    eventually(lambda: state(server, "2") in ("loading", "warming"))
    os.kill(server.child("gsop-front-1"), signal.SIGKILL)
    thread.join()
    with suppress(httpx.RemoteProtocolError):
        state(server, "2")  # a connection that was kept open may have been the dead one's
    eventually(lambda: state(server, "2") == "ready")
    for _ in range(8):
        assert server.predict(IMAGES[0], version="2")["model"]["version"] == "2"


def test_the_commands(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    def gsop(*arguments: str) -> str:
        assert main(["models", *arguments, "--url", server.url]) == 0
        return capsys.readouterr().out

    assert "tiny/2 is ready in" in gsop("load", "tiny/2")
    told = gsop("traffic", "tiny", "--canary", "2", "--percent", "25", "--sticky", "key")
    assert told.startswith("tiny/1 stable, 2 canary with 25 % by key; not kept")
    answered_by(server, 4)
    assert "2 (canary) beside 1 (stable)" in gsop("compare-live", "tiny")
    assert gsop("promote", "tiny").startswith("tiny/2 stable")
    assert gsop("rollback", "tiny").startswith("tiny/1 stable")
    assert "tiny/2 is" in gsop("unload", "tiny/2")
    assert main(["models", "unload", "tiny/1", "--url", server.url]) == 1
    assert "is its only version" in capsys.readouterr().err
    assert main(["models", "promote", "tiny", "--url", "http://127.0.0.1:9"]) == 1
    assert "start it, or say where with --url" in capsys.readouterr().err


def test_a_canary_that_fails_loses_its_share_by_itself(store: Path) -> None:
    marked = encode(np.full((32, 32, 3), NAN, np.uint8), "PNG")
    backend = "tests.failing_backends:Regressed"
    with Server(store, models="tiny/1", backend=backend) as server:
        server.wait_ready()
        load(server, "2")
        put(server, {"stable": "1", "canary": "2", "percent": 50, "auto_rollback": True})

        def share() -> Any:
            server.http.post("/predict", content=marked, headers=PNG)
            return server.http.get("/models/tiny").json()["traffic"]["percent"] == 0

        eventually(share, START_SECONDS)
        assert loaded(server) == {("tiny", "1"), ("tiny", "2")}, "it stays, to be looked at"
        change = server.http.get("/models/tiny").json()["changes"][0]
        assert change["who"] == "the service"
        assert "rolled back from 50 %: failures" in change["what"]
        assert server.metric("gsop_rollbacks_total", model="tiny", reason="failures") == 1
        assert answered_by(server, 4) == {("1", "stable"): 4}
        (report,) = server.http.get("/models/tiny/comparison").json()["comparisons"]
        assert "images failed" in report["verdict"]


def test_what_is_wanted_outlives_the_service(store: Path, tmp_path: Path) -> None:
    state_file = tmp_path / "state.json"
    with Server(store, models="tiny/1", state=state_file) as server:
        assert load(server.wait_ready(), "2").status_code == 200
        assert put(server, {"stable": "1", "canary": "2", "percent": 30}).status_code == 200
        assert server.http.get("/models/tiny").json()["kept"] is True
    wanted = json.loads(state_file.read_text())
    wanted["models"]["tiny"]["shadow"] = "corrupt"
    state_file.write_text(json.dumps(wanted))
    with Server(store, models="tiny/3", state=state_file) as server:
        server.wait_ready()
        eventually(lambda: loaded(server) == {("tiny", "1"), ("tiny", "2")})
        eventually(lambda: state(server, "corrupt") == "failed")
        assert server.predict(IMAGES[0])["model"]["version"] in ("1", "2")
    state_file.write_text('{"models": {"tiny": {"stable": "9"}}}')
    status, log = Server(store, state=state_file).run_to_end()
    assert status == 1
    assert "tiny/9" in log[-1]


def test_a_file_is_followed(store: Path, tmp_path: Path) -> None:
    # As Kubernetes mounts a ConfigMap: a link to a folder that is replaced whole.
    def mount(number: int, text: str) -> None:
        (folder := tmp_path / f"..{number}").mkdir()
        (folder / "state.json").write_text(text)
        (link := tmp_path / "new").symlink_to(folder.name)
        link.rename(tmp_path / "data")

    mount(1, '{"models": {"tiny": {"stable": "1"}}}')
    with Server(store, state=tmp_path / "data" / "state.json", follow=True) as server:
        server.wait_ready()
        (tmp_path / "data" / "state.json").chmod(0o400)
        wanted = {"stable": "1", "canary": "3", "percent": 100, "loaded": ["2"]}
        mount(2, json.dumps({"models": {"tiny": wanted}}))
        eventually(lambda: server.predict(IMAGES[0])["model"]["version"] == "3", 60)
        assert loaded(server) == {("tiny", v) for v in GOOD}
        mount(3, "{ no JSON")
        time.sleep(2)
        assert loaded(server) == {("tiny", v) for v in GOOD}, "what is, stays"
        mount(4, '{"models": {"tiny": {"stable": "2"}}}')
        eventually(lambda: loaded(server) == {("tiny", "2")}, 60)
        assert server.predict(IMAGES[0])["model"]["version"] == "2"


def test_changes_need_the_scope_admin(store: Path) -> None:
    keys = {name: make_key(name, [name]) for name in ("predict", "attention", "admin")}
    entries = ",".join(str(entry) for _, entry in keys.values())
    with Server(store, models="tiny/1", api_keys=entries) as server:
        server.wait_ready()

        def call(name: str, method: str, path: str) -> int:
            key = {"Authorization": f"Bearer {keys[name][0]}"}
            return server.http.request(method, path, headers=key).status_code

        for path in ("versions/2/load", "versions/2/unload", "promote", "rollback"):
            for name in ("predict", "attention"):
                assert call(name, "POST", f"/models/tiny/{path}") == 403
        assert call("predict", "PUT", "/models/tiny/traffic") == 403
        assert call("predict", "GET", "/models/tiny/comparison") == 200
        assert call("admin", "POST", "/models/tiny/versions/2/load") == 200
        (change,) = server.http.get(
            "/models/tiny", headers={"Authorization": f"Bearer {keys['predict'][0]}"}
        ).json()["changes"]
        assert change["who"] == "admin"


def test_a_store_that_is_replaced_is_noticed(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "store")
    with Server(tmp_path / "store", models="tiny/1") as server:
        server.wait_ready()
        shutil.rmtree(tmp_path / "store" / "tiny" / "1")
        publish_tiny(tmp_path / "store", version="1", seed=6)
        answer = load(server, "1")
        assert answer.status_code == 409
        assert "versions never change" in answer.json()["detail"]

"""More than one model, and versions that cannot be served."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from gsop.api.http.schemas import Model, ModelList
from tests.stores import publish_tiny
from tests.support import (
    ROOT,
    START_SECONDS,
    TINY,
    Server,
    eventually,
    in_background,
    random_pngs,
    send_all,
)

pytestmark = pytest.mark.slow

IMAGES = random_pngs(8)
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of different shapes, a newer version of one, and a broken third."""
    root = tmp_path_factory.mktemp("store")
    publish_tiny(root, name="small", version="9", seed=1)
    publish_tiny(root, name="small", version="10", seed=2)
    large = replace(TINY, num_classes=17)
    publish_tiny(root, name="large", seed=3, size=48, config=large, temperature=1.5)
    broken = publish_tiny(root, name="broken")
    (broken / "manifest.json").write_text("{")
    return root


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[Server]:
    with Server(store, models="small,small/9,large") as server:
        yield server.wait_ready()


def test_the_store_is_listed(server: Server) -> None:
    models = ModelList.model_validate_json(server.http.get("/models").content).models
    seen = {(m.name, m.version): (m.loaded, m.default, m.error is None) for m in models}
    assert seen == {
        ("broken", "1"): (False, False, False),
        ("large", "1"): (True, False, True),
        ("small", "9"): (True, False, True),
        ("small", "10"): (True, True, True),
    }


def test_a_model_is_shown_whole(server: Server) -> None:
    model = Model.model_validate_json(server.http.get("/models/large").content)
    (version,) = model.versions
    assert version.labels == [f"class {i}" for i in range(17)]
    assert version.gates is not None
    assert [gate.stage for gate in version.gates] == ["layer1", "layer2", "layer3", "layer4"]
    assert version.temperature == 1.5


def test_each_model_answers_for_itself(server: Server) -> None:
    asked = [
        ({}, "small", "10", 10),
        ({"model": "small"}, "small", "10", 10),
        ({"model": "small", "version": "9"}, "small", "9", 10),
        ({"model": "large"}, "large", "1", 17),
    ]
    answers = []
    for query, name, version, classes in asked:
        answer = server.predict(IMAGES[0], top_k=100, **query)
        assert answer["model"] == {"name": name, "version": version}
        assert len(answer["predictions"]) == classes
        answers.append([p["probability"] for p in answer["predictions"]])
    assert answers[0] == answers[1] != answers[2]


def test_mixed_traffic_is_batched_by_model(server: Server) -> None:
    def ask(query: dict[str, str]) -> list[float]:
        return [server.predict(image, **query)["predictions"][0]["probability"] for image in IMAGES]

    queries = [{"model": "small"}, {"model": "large"}]
    expected = [ask(query) for query in queries]
    joins = [
        in_background(send_all(server.url, IMAGES, clients=8, requests=160, query=query))
        for query in queries
    ]
    for join, alone in zip(joins, expected, strict=True):
        for which, answer in join():
            probability = answer.json()["predictions"][0]["probability"]
            assert probability == pytest.approx(alone[which], abs=1e-5)


def test_statistics_are_kept_apart(server: Server) -> None:
    def samples(name: str) -> int:
        return int(server.http.get("/attention", params={"model": name}).json()["samples"])

    before = samples("small"), samples("large")
    server.predict(IMAGES[0], model="large")
    assert (samples("small"), samples("large")) == (before[0], before[1] + 1)


def test_weights_that_do_not_match_are_refused_at_start(tmp_path: Path) -> None:
    folder = publish_tiny(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    status, lines = Server(tmp_path, models="tiny").run_to_end()
    assert status == 1
    (error,) = [line for line in lines if line.startswith("gsop: error:")]
    assert "model.safetensors" in error


def test_uvicorn_alone_serves_the_application(store: Path) -> None:
    """The lifespan starts the engines itself, and stops them."""
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "gsop.api.http.app:create_app", "--factory"),
            *("--host", "127.0.0.1", "--port", "0"),
        ],
        cwd=ROOT,
        env={
            "PATH": "/usr/bin:/bin",
            "GSOP_MODEL_STORE": str(store),
            "GSOP_MODELS": "small",
            "GSOP_DEVICE": "cpu",
            "GSOP_TORCH_THREADS": "1",
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        url = next(
            found[1]
            for line in server.stderr
            if (found := re.search(r"running on (http://\S+)", line))
        )
        with httpx.Client(base_url=url, timeout=START_SECONDS) as http:
            eventually(lambda: http.get("/readyz").status_code == 200, START_SECONDS)
            answer = http.post("/predict", content=IMAGES[0], headers=PNG)
            assert answer.status_code == 200
        server.terminate()
        server.wait(60)
    finally:
        server.kill()
        server.communicate()

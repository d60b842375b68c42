"""Drift and familiarity, told by a real service."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsop.__main__ import main
from gsop.api.http.drift_schemas import DriftReport
from gsop.api.http.schemas import AttentionRecord, Prediction
from gsop.gates.population import LOGIT_LIMIT
from gsop.keys import make_key
from gsop.store.manifest import Manifest
from gsop.store.reference import read_reference
from tests.imagery import encode
from tests.support import ROOT, Server, eventually, png

pytestmark = pytest.mark.slow

PNG = {"Content-Type": "image/png"}
DRIFT = "/models/digits/drift"
MANIFEST = ROOT / "model_store" / "digits" / "1" / "manifest.json"
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model, and the same without a reference as version 2."""
    root = tmp_path_factory.mktemp("drift")
    shipped = ROOT / "model_store" / "digits" / "1"
    shutil.copytree(shipped, root / "digits" / "1")
    shutil.copytree(shipped, root / "digits" / "2")
    (root / "digits" / "2" / "reference.safetensors").unlink()
    manifest = root / "digits" / "2" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": "1"', '"version": "2"'))
    return root


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[Server]:
    settings = {"models": "digits/1", "drift_window": 100, "drift_learn": 500, "slots": 64}
    with Server(store, **settings) as running:
        yield running.wait_ready()


def scans(count: int) -> list[bytes]:
    """Different images of one kind: noise, of which no two are the same."""
    return [png(RANDOM.integers(0, 256, (8, 8), np.uint8)) for _ in range(count)]


def send(server: Server, images: list[bytes], version: str = "1") -> None:
    for at in range(0, len(images), 16):
        files = [("image", (f"{n}.png", image)) for n, image in enumerate(images[at : at + 16])]
        answer = server.http.post("/predict", files=files, params={"version": version})
        assert answer.status_code == 200, answer.text


def seen(server: Server, **query: str) -> DriftReport:
    answer = server.http.get(DRIFT, params=query)
    assert answer.status_code == 200, answer.text
    return DriftReport.model_validate(answer.json())


def test_a_record_says_how_far_each_gate_is_from_the_reference(server: Server) -> None:
    seven = (ROOT / "examples" / "digits" / "7.png").read_bytes()
    id = server.http.post("/predict", content=seven, headers=PNG).json()["id"]
    answer = server.http.get(f"/attention/{id}")
    told = AttentionRecord.model_validate(answer.json()).stages
    version = ROOT / "model_store" / "digits" / "1"
    reference = read_reference(version, Manifest.model_validate_json(MANIFEST.read_bytes()))
    assert reference is not None
    known = reference.population
    gates = np.concatenate([np.ravel(stage["gate"]) for stage in answer.json()["stages"]])
    logits = np.clip(np.log(gates / (1 - gates)), -LOGIT_LIMIT, LOGIT_LIMIT)
    expected = (logits - known.centre) / known.scale - known.offsets[7]
    scores = np.concatenate([np.ravel(np.array(stage.z)) for stage in told])
    np.testing.assert_allclose(scores, expected, atol=1e-2)
    assert np.abs(scores).mean() < 3
    accept = {"Accept": "application/x-npz"}
    arrays = np.load(io.BytesIO(server.http.get(f"/attention/{id}", headers=accept).content))
    np.testing.assert_allclose(arrays[f"{told[0].block}.channel.z"], np.array(told[0].z), rtol=1e-6)


def test_an_answer_says_how_familiar_it_is_if_it_is_asked(server: Server) -> None:
    seven = (ROOT / "examples" / "digits" / "7.png").read_bytes()
    asked = server.http.post("/predict?familiarity=true", content=seven, headers=PNG).json()
    familiarity = Prediction.model_validate(asked).familiarity
    assert familiarity is not None
    assert familiarity > 0.05
    plain = server.http.post("/predict", content=seven, headers=PNG).json()
    assert plain["familiarity"] is None
    record = AttentionRecord.model_validate(server.http.get(f"/attention/{plain['id']}").json())
    assert record.familiarity == pytest.approx(familiarity, abs=0.01)

    noise = encode(RANDOM.integers(0, 256, (32, 32, 3), np.uint8), "PNG")
    files = [
        ("image", ("a.png", seven)),
        ("image", ("b.png", b"no image")),
        ("image", ("c.png", noise)),
    ]
    answer = server.http.post("/predict?familiarity=true", files=files).json()["results"]
    first, broken, other = (result["prediction"] for result in answer)
    assert first["familiarity"] == pytest.approx(familiarity, abs=0.01)
    assert broken is None
    assert other["familiarity"] < 0.05


def test_changed_images_are_drift_and_outlive_a_change_of_versions(server: Server) -> None:
    send(server, scans(220))
    before = seen(server)
    assert before.score is not None
    assert before.score > 1
    assert before.reference is not None
    assert before.reference.kind == "published"
    assert before.window is not None
    assert before.window.complete
    assert before.window.images == 100
    assert abs(before.largest[0].evidence) == pytest.approx(before.window.score)
    assert len(before.stages) == 4
    assert before.classes is not None
    assert sum(one.live or 0 for one in before.classes) == pytest.approx(1)
    one_stage = seen(server, stage="layer2")
    assert {gate.stage for gate in one_stage.stages} == {"layer2"}
    assert {number.stage for number in one_stage.largest} == {"layer2"}

    assert server.http.post("/models/digits/versions/2/load").status_code == 200

    def told() -> bool:
        score = server.metric("gsop_drift_score", model="digits", version="1")
        return score == pytest.approx(before.score)

    eventually(told)
    first, second = server.http.get("/status").json()["versions"]
    assert first["drift"] == pytest.approx(before.score)
    assert second["drift"] is None
    after = seen(server)
    assert after.score == pytest.approx(before.score)
    assert after.images == before.images


def test_a_version_without_a_reference_learns_one(server: Server) -> None:
    server.http.post("/models/digits/versions/2/load")
    send(server, scans(64), version="2")
    early = seen(server, version="2")
    assert early.learning is not None
    assert early.learning.wanted == 500
    assert early.reference is None
    send(server, scans(700), version="2")
    later = seen(server, version="2")
    assert later.reference is not None
    assert later.reference.kind == "learned"
    assert later.score is not None
    assert later.score < 1
    noise = encode(RANDOM.integers(0, 256, (32, 32, 3), np.uint8), "PNG")
    query = {"version": "2", "familiarity": "true"}
    answer = server.http.post("/predict", params=query, content=noise, headers=PNG).json()
    assert answer["familiarity"] is None, "nobody knows whether these were the right images"


def test_familiarity_is_counted(server: Server) -> None:
    send(server, scans(3))

    def counted() -> bool:
        return server.metric("gsop_familiarity_count", model="digits", version="1") >= 3

    eventually(counted)


def test_it_is_drawn(server: Server, tmp_path: Path) -> None:
    answer = server.http.get(DRIFT, headers={"Accept": "image/png"})
    assert answer.headers["Content-Type"] == "image/png"
    file = tmp_path / "drift.png"
    assert main(["models", "drift", "digits/1", "--url", server.url, "--picture", str(file)]) == 0
    with Image.open(file) as picture:
        assert picture.format == "PNG"


def test_the_command_says_what_it_sees(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "drift", "digits", "--url", server.url]) == 0
    assert "digits/1: reference published, 364 held-out images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/models/none/drift", 404),
        (f"{DRIFT}?version=9", 404),
        (f"{DRIFT}?stage=layer9", 422),
        (f"{DRIFT}?other=1", 422),
    ],
)
def test_what_is_not_there_is_refused(server: Server, path: str, status: int) -> None:
    assert server.http.get(path).status_code == status
    assert server.http.get(DRIFT, headers={"Accept": "text/html"}).status_code == 406


def test_keys_need_the_scope_of_gates_and_see_no_classes_without_admin(store: Path) -> None:
    made = {scope: make_key(scope, [scope]) for scope in ("predict", "attention", "admin")}
    entries = ",".join(str(entry) for _, entry in made.values())
    with Server(store, models="digits/1", api_keys=entries) as server:
        server.wait_ready()
        found = {
            scope: server.http.get(DRIFT, headers={"Authorization": f"Bearer {key}"})
            for scope, (key, _) in made.items()
        }
    assert [found[scope].status_code for scope in made] == [403, 200, 200]
    assert found["attention"].json()["classes"] is None
    assert found["admin"].json()["classes"] is not None

import base64
import io
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from gsop.api.http.schemas import AttentionRecord, AttentionStatistics, Prediction, Results
from tests.imagery import heic, heic_grid
from tests.support import ROOT, Server

pytestmark = pytest.mark.slow

EXAMPLES = sorted((ROOT / "examples" / "digits").glob("*.png"))
SEVEN = ROOT / "examples" / "digits" / "7.png"


def probabilities(answer: httpx.Response) -> dict[str, float]:
    assert answer.status_code == 200, answer.text
    return {p["label"]: p["probability"] for p in answer.json()["predictions"]}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_gets_its_true_class(digits_server: Server, path: Path) -> None:
    answer = digits_server.predict(path.read_bytes())
    assert answer["predictions"][0]["label"] == path.stem[0]


def test_there_is_an_example_for_every_digit() -> None:
    assert {path.stem[0] for path in EXAMPLES} == set("0123456789")


def test_all_body_forms_give_the_same_probabilities(digits_server: Server) -> None:
    http, image = digits_server.http, SEVEN.read_bytes()
    encoded = base64.b64encode(image).decode()
    params = {"top_k": 10}
    answers = [
        http.post("/predict", params=params, content=image, headers={"Content-Type": "image/png"}),
        http.post(
            "/predict",
            params=params,
            content=image,
            headers={"Content-Type": "application/octet-stream"},
        ),
        http.post("/predict", params=params, files={"image": ("7.png", image, "image/png")}),
        http.post("/predict", params=params, json={"image": encoded}),
        http.post("/predict", params=params, json={"image": f"data:image/png;base64,{encoded}"}),
    ]
    first = probabilities(answers[0])
    assert len(first) == 10
    assert sum(first.values()) == pytest.approx(1, abs=1e-5)
    for answer in answers[1:]:
        assert probabilities(answer) == pytest.approx(first, abs=1e-6)


def test_what_phones_save_is_answered_in_the_cage(digits_server: Server) -> None:
    """A caged decoder can open no file: all that HEIC and AVIF need has to be there before."""
    avif = io.BytesIO()
    Image.open(SEVEN).convert("RGB").save(avif, "AVIF", quality=95)
    assert digits_server.predict(avif.getvalue())["predictions"][0]["label"] == "7"
    for name in ("turned-1", "turned-6", "grey", "clear"):
        assert len(digits_server.predict(heic(name))["predictions"]) == 5
    assert digits_server.predict(heic_grid(12, 16))["predictions"]  # 0.8 megapixels in 192 tiles
    assert digits_server.metric("gsop_decoders_lost_total") == 0


def test_options_in_the_body_are_honoured(digits_server: Server) -> None:
    image = base64.b64encode(SEVEN.read_bytes()).decode()
    members = {"image": image, "top_k": 3, "attention": True, "model": "digits/1"}
    answer = digits_server.http.post("/predict", json=members).json()
    assert len(answer["predictions"]) == 3
    assert answer["attention"]
    assert answer["role"] == "requested"
    fields = {"top_k": "2", "version": "1"}
    answer = digits_server.http.post("/predict", data=fields, files={"image": SEVEN.read_bytes()})
    assert len(answer.json()["predictions"]) == 2
    several = {"images": [image, image], "top_k": 1}
    results = digits_server.http.post("/predict", json=several).json()["results"]
    assert [r["prediction"]["predictions"][0]["label"] for r in results] == ["7", "7"]


@pytest.mark.parametrize(
    ("query", "members", "status", "told"),
    [
        ("", {"topk": 3}, 422, "'topk' is no member that is read"),
        ("", {"top_k": 0}, 422, "top_k: "),
        ("?top_k=3", {"top_k": 4}, 422, "the query and the body differ"),
        ("", {"model": "nobody"}, 404, "nobody is not loaded; loaded: digits/1"),
        ("?model=digits/2", {}, 404, "digits/2 is not loaded; loaded: digits/1"),
    ],
)
def test_options_are_judged_wherever_they_stand(
    digits_server: Server, query: str, members: dict[str, object], status: int, told: str
) -> None:
    image = base64.b64encode(SEVEN.read_bytes()).decode()
    answer = digits_server.http.post(f"/predict{query}", json={"image": image, **members})
    assert answer.status_code == status
    assert told in answer.json()["detail"]


@pytest.mark.parametrize("call", ["predict", "preprocess"])
def test_a_model_may_be_named_with_its_version(digits_server: Server, call: str) -> None:
    answer = digits_server.http.post(f"/{call}?model=digits/1", content=SEVEN.read_bytes())
    assert answer.status_code == 200, answer.text
    assert digits_server.http.get("/attention?model=digits/1").status_code == 200


def test_answer_has_the_documented_shape(digits_server: Server) -> None:
    answer = digits_server.http.post(
        "/predict", content=SEVEN.read_bytes(), headers={"Content-Type": "image/png"}
    )
    prediction = Prediction.model_validate_json(answer.content, strict=True)
    assert prediction.attention is None
    assert len(prediction.predictions) == 5
    assert [p.probability for p in prediction.predictions] == sorted(
        (p.probability for p in prediction.predictions), reverse=True
    )
    timing = prediction.timing_ms
    assert 0 < timing.decode + timing.queue + timing.inference <= timing.total
    assert {part.split(";")[0] for part in answer.headers["Server-Timing"].split(", ")} == {
        "decode",
        "queue",
        "inference",
        "total",
    }


def test_top_k_is_clamped_to_the_classes(digits_server: Server) -> None:
    assert len(digits_server.predict(SEVEN.read_bytes(), top_k=1)["predictions"]) == 1
    assert len(digits_server.predict(SEVEN.read_bytes(), top_k=500)["predictions"]) == 10


def test_attention_is_the_same_everywhere(digits_server: Server) -> None:
    http = digits_server.http
    before = http.get("/attention").json()["samples"]
    answer = digits_server.predict(SEVEN.read_bytes(), attention=True)
    gates = answer["attention"]
    (version,) = http.get("/models/digits").json()["versions"][:1]
    assert [g["stage"] for g in gates] == ["layer1", "layer2", "layer3", "layer4"]
    assert [{k: g[k] for k in ("stage", "block", "kind", "shape")} for g in gates] == version[
        "gates"
    ]
    for gate in gates:
        assert [len(gate["gate"])] == gate["shape"]
        assert all(0 < value < 1 for value in gate["gate"])

    kept = http.get(f"/attention/{answer['id']}")
    AttentionRecord.model_validate_json(kept.content)
    stages = kept.json()["stages"]
    assert [len(stage.pop("z")) for stage in stages] == [len(gate["gate"]) for gate in gates]
    assert stages == gates
    assert kept.json()["predictions"] == answer["predictions"]

    arrays = http.get(f"/attention/{answer['id']}", headers={"Accept": "application/x-npz"})
    with np.load(io.BytesIO(arrays.content)) as file:
        for gate in gates:
            np.testing.assert_array_equal(
                file[f"{gate['block']}.{gate['kind']}"], np.float32(gate["gate"])
            )

    picture = http.get(f"/attention/{answer['id']}", headers={"Accept": "image/png"})
    assert picture.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(picture.content)).format == "PNG"

    seen = http.get("/attention")
    AttentionStatistics.model_validate_json(seen.content)
    assert seen.json()["samples"] == before + 1
    assert seen.json()["recent"][0]["id"] == answer["id"]
    assert seen.json()["recent"][0]["label"] == "7"


def test_statistics_by_stage_and_class(digits_server: Server) -> None:
    http = digits_server.http
    digits_server.predict(SEVEN.read_bytes())
    only = http.get("/attention", params={"stage": "layer2"}).json()["stages"]
    assert [stage["stage"] for stage in only] == ["layer2"]
    sevens = http.get("/attention", params={"class": "7"}).json()
    total = http.get("/attention").json()
    assert 0 < sevens["samples"] <= total["samples"]
    for stage in total["stages"]:
        bounds = zip(stage["min"], stage["mean"], stage["max"], strict=True)
        assert all(low - 1e-6 <= mean <= high + 1e-6 for low, mean, high in bounds)


def test_several_images_get_several_answers_in_order(digits_server: Server) -> None:
    paths = [SEVEN, EXAMPLES[0], EXAMPLES[-1]]
    files = [("image", (path.name, path.read_bytes(), "image/png")) for path in paths]
    files.insert(1, ("image", ("broken.png", b"no image at all", "image/png")))
    answer = digits_server.http.post("/predict", files=files)
    results = Results.model_validate_json(answer.content).results
    assert len(results) == 4
    broken = results.pop(1)
    assert broken.prediction is None
    assert broken.error is not None
    assert (broken.error.status, broken.error.code) == (400, "invalid_image")
    for path, result in zip(paths, results, strict=True):
        assert result.error is None
        assert result.prediction is not None
        assert result.prediction.predictions[0].label == path.stem[0]


def test_request_id_is_echoed_or_made(digits_server: Server) -> None:
    http = digits_server.http
    assert http.get("/readyz", headers={"X-Request-Id": "abc-1"}).headers["X-Request-Id"] == "abc-1"
    made = http.get("/readyz", headers={"X-Request-Id": "no good: {}"})
    assert len(made.headers["X-Request-Id"]) == 16


def test_ids_are_long_and_never_repeat(digits_server: Server) -> None:
    ids = {digits_server.predict(SEVEN.read_bytes())["id"] for _ in range(20)}
    assert len(ids) == 20
    assert min(map(len, ids)) >= 20
    instance = digits_server.http.get("/readyz").json()["instance"]
    assert {id_.partition(".")[0] for id_ in ids} == {instance}


def test_an_id_of_another_instance_says_so(digits_server: Server) -> None:
    made = digits_server.predict(SEVEN.read_bytes())["id"]
    http = digits_server.http
    other = http.get(f"/attention/{'0' * 6}.{made.partition('.')[2]}")
    assert (other.status_code, other.json()["code"]) == (404, "unknown_prediction")
    assert "made by another instance (000000; this one is " in other.json()["detail"]
    displaced = http.get(f"/attention/{made[:-1]}").json()["detail"]
    assert "only the newest are (1024 a version" in displaced

"""The calls below ``/v2`` by tritonclient, unchanged, beside ``POST /predict``."""

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from gsop.images import decode
from gsop.keys import make_key
from gsop.store.manifest import read_manifest
from tests.stores import publish_tiny
from tests.support import ROOT, Server

pytestmark = pytest.mark.slow

EXAMPLES = [path.read_bytes() for path in sorted((ROOT / "examples" / "digits").glob("*.png"))]
KEYS = {
    "shop": make_key("shop", ["predict"]),
    "lab": make_key("lab", ["predict", "attention"]),
    "audit": make_key("audit", ["admin"]),
}


def client_of(server: Server) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(server.url.removeprefix("http://"))


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name][0]}"}


@pytest.fixture(scope="module")
def client(digits_server: Server) -> Iterator[triton.InferenceServerClient]:
    client = client_of(digits_server)
    yield client
    client.close()


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    store = tmp_path_factory.mktemp("store")
    publish_tiny(store)
    publish_tiny(store, version="2")
    entries = ",".join(str(entry) for _, entry in KEYS.values())
    with Server(store, models="tiny/1", api_keys=entries) as server:
        yield server.wait_ready()


def image_input(images: list[bytes], shape: list[int] | None = None) -> triton.InferInput:
    made = triton.InferInput("image", shape or [len(images)], "BYTES")
    made.set_data_from_numpy(np.array(images, object).reshape(shape or [len(images)]))
    return made


def pixel_input(pixels: npt.NDArray[Any], *, as_binary: bool = True) -> triton.InferInput:
    datatype = "UINT8" if pixels.dtype == np.uint8 else "FP32"
    made = triton.InferInput("pixels", list(pixels.shape), datatype)
    made.set_data_from_numpy(pixels, binary_data=as_binary)
    return made


def seen_by_network(images: list[bytes]) -> npt.NDArray[np.uint8]:
    """Pixels ``(N, 3, H, W)``, by the same decoding."""
    spec = read_manifest(ROOT / "model_store" / "digits" / "1").input
    decoded = [decode(image, spec, max_pixels=10**6).transpose(2, 0, 1) for image in images]
    return np.ascontiguousarray(decoded)


def predicted(server: Server, image: bytes) -> tuple[npt.NDArray[Any], dict[str, Any]]:
    """What ``POST /predict`` says: the probabilities by class, and the gates by output."""
    answer = server.predict(image, top_k=100, attention=True)
    probabilities = np.zeros(len(answer["predictions"]), np.float32)
    for one in answer["predictions"]:
        probabilities[one["class_id"]] = one["probability"]
    gates = {f"gate.{g['block']}.{g['kind']}": g["gate"] for g in answer["attention"]}
    return probabilities, gates


def test_the_server_and_its_model_are_described(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("others")
    assert client.get_server_metadata()["name"] == "gsop"
    metadata = client.get_model_metadata("digits")
    assert metadata["inputs"] == [
        {"name": "image", "datatype": "BYTES", "shape": [-1, 1]},
        {"name": "pixels", "datatype": "UINT8", "shape": [-1, 3, 32, 32]},
    ]
    assert metadata["outputs"][0] == {
        "name": "probabilities",
        "datatype": "FP32",
        "shape": [-1, 10],
    }
    assert "gate.layer1.1.channel" in [o["name"] for o in metadata["outputs"]]
    assert (metadata["versions"], metadata["platform"]) == (["1"], "gsop_torch")
    config = client.get_model_config("digits", "1")
    assert [o["name"] for o in config["output"]] == [o["name"] for o in metadata["outputs"]]
    assert config["max_batch_size"] == 32
    (entry,) = [e for e in client.get_model_repository_index() if e["version"] == "1"]
    assert entry == {"name": "digits", "version": "1", "state": "READY", "reason": ""}


@pytest.mark.parametrize("as_binary", [True, False])
def test_every_example_is_answered_as_by_predict(
    digits_server: Server, client: triton.InferenceServerClient, as_binary: bool
) -> None:
    names = [o["name"] for o in client.get_model_metadata("digits")["outputs"]]
    outputs = [triton.InferRequestedOutput(name, binary_data=as_binary) for name in names]
    answer = client.infer("digits", [image_input(EXAMPLES)], outputs=outputs, request_id="me")
    assert answer.get_response()["id"] == "me"
    for at, image in enumerate(EXAMPLES):
        probabilities, gates = predicted(digits_server, image)
        found = answer.as_numpy("probabilities")[at]
        np.testing.assert_allclose(found, probabilities, atol=1e-6)
        for name, gate in gates.items():
            np.testing.assert_allclose(answer.as_numpy(name)[at], gate, atol=1e-6)


def test_all_outputs_are_answered_where_none_is_named(
    client: triton.InferenceServerClient,
) -> None:
    answer = client.infer("digits", [image_input(EXAMPLES[:1], [1, 1])]).get_response()
    metadata = client.get_model_metadata("digits")
    assert [o["name"] for o in answer["outputs"]] == [o["name"] for o in metadata["outputs"]]
    assert (answer["model_name"], answer["model_version"]) == ("digits", "1")
    assert answer["parameters"]["role"] == "stable"


@pytest.mark.parametrize("as_binary", [True, False])
@pytest.mark.parametrize("datatype", [np.uint8, np.float32])
def test_pixels_are_answered_as_their_file(
    client: triton.InferenceServerClient, datatype: type, as_binary: bool
) -> None:
    pixels = seen_by_network(EXAMPLES)
    values = pixels if datatype is np.uint8 else (pixels / 255).astype(np.float32)
    found = client.infer("digits", [pixel_input(values, as_binary=as_binary)])
    right = client.infer("digits", [image_input(EXAMPLES)])
    for output in right.get_response()["outputs"]:
        name = output["name"]
        np.testing.assert_allclose(found.as_numpy(name), right.as_numpy(name), atol=1e-6)


def test_classes_come_in_words(digits_server: Server, client: triton.InferenceServerClient) -> None:
    wanted = [triton.InferRequestedOutput("probabilities", class_count=3)]
    found = client.infer("digits", [image_input(EXAMPLES)], outputs=wanted)
    for words, image in zip(found.as_numpy("probabilities"), EXAMPLES, strict=True):
        best = digits_server.predict(image, top_k=3)["predictions"]
        values, indices, labels = zip(*(w.decode().split(":", 2) for w in words), strict=True)
        assert list(labels) == [p["label"] for p in best]
        assert list(map(int, indices)) == [p["class_id"] for p in best]
        assert list(map(float, values)) == pytest.approx([p["probability"] for p in best], abs=1e-5)


def test_the_asynchronous_client_gets_the_same(digits_server: Server) -> None:
    async def ask() -> Any:
        url = digits_server.url.removeprefix("http://")
        async with triton_aio.InferenceServerClient(url) as client:
            assert await client.is_model_ready("digits")
            answers = await asyncio.gather(
                *(client.infer("digits", [image_input([image])]) for image in EXAMPLES[:4])
            )
            return [answer.as_numpy("probabilities")[0] for answer in answers]

    for found, image in zip(asyncio.run(ask()), EXAMPLES, strict=False):
        np.testing.assert_allclose(found, predicted(digits_server, image)[0], atol=1e-6)


def test_json_needs_no_client(digits_server: Server) -> None:
    data = [base64.b64encode(image).decode() for image in EXAMPLES[:2]]
    tensor = {"name": "image", "shape": [2], "datatype": "BYTES", "data": data}
    answer = digits_server.http.post("/v2/models/digits/infer", json={"inputs": [tensor]}).json()
    found = np.array(answer["outputs"][0]["data"]).reshape(answer["outputs"][0]["shape"])
    np.testing.assert_allclose(found[0], predicted(digits_server, EXAMPLES[0])[0], atol=1e-6)
    ids = answer["parameters"]["prediction_ids"].split(",")
    assert [digits_server.http.get(f"/attention/{id_}").status_code for id_ in ids] == [200, 200]


def test_errors_have_their_status_and_text(client: triton.InferenceServerClient) -> None:
    def fails(status: str, text: str, model: str = "digits", **how: Any) -> None:
        with pytest.raises(InferenceServerException, match=text) as raised:
            client.infer(model, how.pop("inputs", [image_input(EXAMPLES[:1])]), **how)
        assert raised.value.status() == status

    fails("404", "others is not loaded", model="others")
    fails("404", "digits/9 is not loaded", model_version="9")
    fails("400", "no output 'x'", outputs=[triton.InferRequestedOutput("x")])
    fails("400", "element 1 of the input", inputs=[image_input([EXAMPLES[0], b"no image"])])
    fails("400", "at most 32", inputs=[image_input(EXAMPLES[:1] * 33)])
    fails("504", "deadline", timeout=1)
    small = [pixel_input(np.zeros((1, 3, 8, 8), np.uint8))]
    fails("400", r"send \[N, 3, 32, 32\]", inputs=small)
    normalised = [pixel_input(np.full((1, 3, 32, 32), -1.5, np.float32))]
    fails("400", "before mean and deviation", inputs=normalised)
    fails("415", "compressed", request_compression_algorithm="gzip")


def test_what_is_nowhere_has_the_member_too(digits_server: Server) -> None:
    for answer in (digits_server.http.get("/v2/others"), digits_server.http.post("/v2")):
        assert answer.status_code in (404, 405)
        assert answer.json()["error"]
        assert answer.headers["content-type"] == "application/json"
    assert "error" not in digits_server.http.get("/others").json()


def test_statistics_move(client: triton.InferenceServerClient) -> None:
    def seen() -> dict[str, Any]:
        (stats,) = client.get_inference_statistics("digits", "1")["model_stats"]
        assert stats in client.get_inference_statistics()["model_stats"]
        return dict(stats)

    before = seen()
    client.infer("digits", [image_input(EXAMPLES[:3])])
    after = seen()
    assert after["inference_count"] == before["inference_count"] + 3
    for name in ("success", "queue", "compute_input", "compute_infer"):
        one, two = before["inference_stats"][name], after["inference_stats"][name]
        assert two["count"] == one["count"] + 3
        assert two["ns"] > one["ns"]


def test_keys_open_what_they_are_for(locked: Server) -> None:
    client = client_of(locked)
    images = [image_input(EXAMPLES[:1])]
    assert client.is_server_ready()
    with pytest.raises(InferenceServerException, match="API key") as raised:
        client.infer("tiny", images)
    assert raised.value.status() == "401"
    seen = client.get_model_metadata("tiny", headers=bearer("shop"))["outputs"]
    assert [o["name"] for o in seen if o["name"].startswith("gate.")] == []
    answer = client.infer("tiny", images, headers=bearer("shop"))
    assert len(answer.get_response()["outputs"]) == len(seen)
    gate = [triton.InferRequestedOutput("gate.layer1.1.channel")]
    with pytest.raises(InferenceServerException, match="attention") as raised:
        client.infer("tiny", images, outputs=gate, headers=bearer("shop"))
    assert raised.value.status() == "403"
    assert client.infer("tiny", images, outputs=gate, headers=bearer("lab")) is not None
    assert client.get_model_config("tiny", headers=bearer("lab"))["name"] == "tiny"
    with pytest.raises(InferenceServerException, match="admin") as raised:
        client.get_inference_statistics("tiny", headers=bearer("lab"))
    assert raised.value.status() == "403"


def test_versions_are_loaded_and_unloaded(locked: Server) -> None:
    client, headers = client_of(locked), bearer("audit")

    def states() -> dict[str, str]:
        entries = client.get_model_repository_index(headers=headers)
        return {entry["version"]: entry["state"] for entry in entries}

    assert states() == {"1": "READY", "2": "UNAVAILABLE"}
    client.load_model("tiny", headers=headers)
    assert states() == {"1": "READY", "2": "READY"}
    assert client.is_model_ready("tiny", "2", headers=headers)
    path = f"{locked.url}/v2/repository/models/tiny/unload"
    told = {"parameters": {"version": "2"}}
    assert httpx.post(path, json=told, headers=headers, timeout=60).status_code == 200
    assert states()["2"] in ("UNLOADING", "UNAVAILABLE")
    assert httpx.post(path, json=told, headers=bearer("lab")).status_code == 403
    with pytest.raises(InferenceServerException) as raised:
        client.load_model("others", headers=headers)
    assert raised.value.status() == "404"


@pytest.mark.parametrize("call", ["index", "models/digits/load", "models/digits/unload"])
@pytest.mark.parametrize("body", [b"[]", b"{", b'{"parameters": {"version": 1}}', b"x" * 100_000])
def test_small_bodies_that_make_no_sense_are_refused(
    digits_server: Server, call: str, body: bytes
) -> None:
    answer = digits_server.http.post(f"/v2/repository/{call}", content=body)
    allowed = {200} if call == "index" and body.startswith(b'{"') else {400, 413}
    assert answer.status_code in allowed

"""The same over gRPC, by tritonclient, unchanged."""

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tritonclient.utils import InferenceServerException

from deploy.protocol import MADE, make
from gsop.api.http.routes import GRPC_SERVICE
from tests.api.oip.test_rest import EXAMPLES, KEYS, bearer, predicted, seen_by_network
from tests.support import ROOT, Server, eventually
from tests.test_documented import blocks

pytestmark = pytest.mark.slow


def address_of(server: Server) -> str:
    """Where the service says that it speaks gRPC."""

    def find() -> str | None:
        lines = [line for line in server.log if "over gRPC" in line]
        return lines[0].split(" on port ")[1].split()[0] if lines else None

    return f"127.0.0.1:{eventually(find)}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(ROOT / "model_store", grpc_port=0, fronts=2) as server:
        yield server.wait_ready()


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address_of(server)) as client:
        eventually(client.is_server_ready)
        yield client


def image_input(images: list[bytes]) -> triton.InferInput:
    made = triton.InferInput("image", [len(images)], "BYTES")
    made.set_data_from_numpy(np.array(images, object))
    return made


def fails(status: str, text: str, call: Any, *arguments: Any, **how: Any) -> None:
    with pytest.raises(InferenceServerException, match=text) as raised:
        call(*arguments, **how)
    assert raised.value.status() == f"StatusCode.{status}"


def test_messages_are_made_of_the_proto() -> None:
    assert make() == MADE.read_text(encoding="utf-8"), "run python -m deploy.protocol"


def test_the_server_and_its_model_are_described(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("others")
    assert client.get_server_metadata().name == "gsop"
    metadata = client.get_model_metadata("digits")
    assert [(i.name, i.datatype, list(i.shape)) for i in metadata.inputs] == [
        ("image", "BYTES", [-1, 1]),
        ("pixels", "UINT8", [-1, 3, 32, 32]),
    ]
    config = client.get_model_config("digits").config
    assert [o.name for o in config.output] == [o.name for o in metadata.outputs]
    assert (config.max_batch_size, config.input[0].data_type) == (32, 13)
    assert config.HasField("dynamic_batching")
    assert all(tensor.optional for tensor in config.input)
    states = {(m.name, m.version): m.state for m in client.get_model_repository_index().models}
    assert states["digits", "1"] == "READY"


def test_every_example_is_answered_as_by_predict(
    server: Server, client: triton.InferenceServerClient
) -> None:
    answer = client.infer("digits", [image_input(EXAMPLES)], request_id="me")
    assert answer.get_response().id == "me"
    for at, image in enumerate(EXAMPLES):
        probabilities, gates = predicted(server, image)
        found = answer.as_numpy("probabilities")[at]
        np.testing.assert_allclose(found, probabilities, atol=1e-6)
        for name, gate in gates.items():
            np.testing.assert_allclose(answer.as_numpy(name)[at], gate, atol=1e-6)


def test_pixels_are_answered_as_their_file(client: triton.InferenceServerClient) -> None:
    pixels = seen_by_network(EXAMPLES)
    right = client.infer("digits", [image_input(EXAMPLES)]).as_numpy("probabilities")
    for values, datatype in ((pixels, "UINT8"), ((pixels / 255).astype(np.float32), "FP32")):
        made = triton.InferInput("pixels", list(pixels.shape), datatype)
        made.set_data_from_numpy(values)
        found = client.infer("digits", [made]).as_numpy("probabilities")
        np.testing.assert_allclose(found, right, atol=1e-6)


def test_classes_come_in_words(client: triton.InferenceServerClient) -> None:
    wanted = [triton.InferRequestedOutput("probabilities", class_count=2)]
    (row,) = client.infer("digits", [image_input(EXAMPLES[-1:])], outputs=wanted).as_numpy(
        "probabilities"
    )
    assert row[0].decode().endswith(":9:9")


def test_errors_have_their_status_and_text(client: triton.InferenceServerClient) -> None:
    images = [image_input(EXAMPLES[:1])]
    fails("NOT_FOUND", "others is not loaded", client.infer, "others", images)
    fails("NOT_FOUND", "not loaded", client.infer, "digits", images, model_version="9")
    wanted = [triton.InferRequestedOutput("x")]
    fails("INVALID_ARGUMENT", "no output 'x'", client.infer, "digits", images, outputs=wanted)
    bad = [image_input([EXAMPLES[0], b"no image"])]
    fails("INVALID_ARGUMENT", "element 1 of the input", client.infer, "digits", bad)
    fails("DEADLINE_EXCEEDED", "deadline", client.infer, "digits", images, timeout=1)
    fails("DEADLINE_EXCEEDED", "[Dd]eadline", client.infer, "digits", images, client_timeout=0.0001)
    fails("NOT_FOUND", "store has no version", client.load_model, "others")
    large = [image_input([bytes(11 * 2**20)])]
    fails("RESOURCE_EXHAUSTED", "larger than max", client.infer, "digits", large)


@pytest.mark.parametrize("body", [b"", b"\xff\xff\xff", b"\x0a\xff\xff\xff\xff\x0f", bytes(1000)])
def test_what_is_no_message_is_the_clients_fault(server: Server, body: bytes) -> None:
    with grpc.insecure_channel(address_of(server)) as channel:
        call = channel.unary_unary(f"/{GRPC_SERVICE}/ModelInfer")
        with pytest.raises(grpc.RpcError) as raised:
            call(body, timeout=30)
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert ("code", "invalid_request") in raised.value.trailing_metadata()


def test_calls_are_counted_as_all_others(
    server: Server, client: triton.InferenceServerClient
) -> None:
    route = f"/{GRPC_SERVICE}/ModelInfer"

    def counted() -> float:
        return server.metric("gsop_requests_total", route=route, status="200")

    before = counted()
    client.infer("digits", [image_input(EXAMPLES[:1])])
    eventually(lambda: counted() == before + 1)


def test_the_standard_services_are_there(server: Server) -> None:
    with grpc.insecure_channel(address_of(server)) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        eventually(lambda: health.Check(health_pb2.HealthCheckRequest()).status == 1)
        named = health_pb2.HealthCheckRequest(service=GRPC_SERVICE)
        assert health.Check(named).status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        (told,) = reflection.ServerReflectionInfo(iter([asked]))
        names = {service.name for service in told.list_services_response.service}
        assert {GRPC_SERVICE, "grpc.health.v1.Health"} <= names


def test_keys_open_what_they_are_for(tiny_store: Path) -> None:
    entries = ",".join(str(entry) for _, entry in KEYS.values())
    with (
        Server(tiny_store, models="tiny", api_keys=entries, grpc_port=0) as server,
        triton.InferenceServerClient(address_of(server.wait_ready())) as client,
    ):
        images = [image_input(EXAMPLES[:1])]
        headers = {name: {"authorization": bearer(name)["Authorization"]} for name in KEYS}
        assert eventually(client.is_server_ready)
        fails("UNAUTHENTICATED", "API key", client.infer, "tiny", images)
        answer = client.infer("tiny", images, headers=headers["shop"])
        names = [output.name for output in answer.get_response().outputs]
        assert not [name for name in names if name.startswith("gate.")]
        gate = [triton.InferRequestedOutput("gate.layer1.1.channel")]
        fails(
            "PERMISSION_DENIED",
            "attention",
            client.infer,
            "tiny",
            images,
            outputs=gate,
            headers=headers["shop"],
        )
        client.infer("tiny", images, outputs=gate, headers=headers["lab"])
        fails(
            "PERMISSION_DENIED",
            "admin",
            client.get_inference_statistics,
            "tiny",
            headers=headers["lab"],
        )
        client.get_inference_statistics("tiny", headers=headers["audit"])
        fails("PERMISSION_DENIED", "admin", client.load_model, "tiny", headers=headers["shop"])
        client.load_model("tiny", headers=headers["audit"])
        calls = eventually(lambda: [s for s in map(json.loads, server.log) if "of" in s])
        assert [(s["client"], s["status"], s["of"]) for s in calls] == [
            ("audit", 200, {"name": "tiny"})
        ]


def test_what_is_under_way_is_answered_when_the_service_stops() -> None:
    with Server(ROOT / "model_store", grpc_port=0) as server:
        address = address_of(server.wait_ready())

        async def ask() -> int:
            async with triton_aio.InferenceServerClient(address) as client:
                assert await client.is_server_ready()
                async with grpc.aio.insecure_channel(address) as channel:
                    watch = health_pb2_grpc.HealthStub(channel).Watch(
                        health_pb2.HealthCheckRequest()
                    )
                    await watch.read()  # whoever watches does not hold the end up
                    calls = [client.infer("digits", [image_input(EXAMPLES)]) for _ in range(8)]
                    tasks = [asyncio.ensure_future(call) for call in calls]
                    await asyncio.sleep(0.1)
                    server.process.send_signal(signal.SIGTERM)
                    answers = await asyncio.gather(*tasks, return_exceptions=True)
            return sum(isinstance(answer, triton.InferResult) for answer in answers)

        answered = asyncio.run(ask())
        assert server.process.wait(25) == 0
        assert answered == 8


def test_the_documented_client_works_as_it_is_written(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    (code,) = [code for code in blocks("protocols.md", "python") if "localhost:8001" in code]
    names: dict[str, Any] = {}
    exec(code.replace("localhost:8001", address_of(server)), names)  # noqa: S102  # our own
    answer = names["client"].infer("digits", [names["image"]])
    assert answer.as_numpy("probabilities").argmax() == 7
    names["client"].close()

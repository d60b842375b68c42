"""Traces: a real collector gets the spans of each request, and none can slow one down."""

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gsop.api.http.routes import GRPC_SERVICE
from gsop.processes.cage import missing
from tests.api.oip.test_grpc import address_of
from tests.collector import Collector, Span
from tests.support import ROOT, Server, eventually, random_pngs
from tests.test_layers import MODULES, imports_of, is_in, name_of

IMAGES = random_pngs(3)
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SENT = f"00-{TRACE}-{PARENT}-01"
UNSENT = f"00-{TRACE[::-1]}-{PARENT}-00"
SECRET = "hunter2"  # noqa: S105  # it is looked for


class Traced(Server):
    """A server that sends its spans to a collector."""

    def __init__(self, store: Path, endpoint: str, **settings: object) -> None:
        super().__init__(store, models="tiny", log_format="json", **settings)
        self.environment |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
        }


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_one_module_imports_opentelemetry(path: Path) -> None:
    if name_of(path) != "gsop.api.spans":
        assert not [name for name in imports_of(path) if is_in(name, "opentelemetry")]


@pytest.mark.parametrize(
    "module", ["gsop.api.http.front", "gsop.engine.process", "gsop.serving.decoder"]
)
def test_who_makes_no_traces_loads_nothing_of_it(module: str) -> None:
    code = f"import sys, {module}; sys.exit('opentelemetry.sdk' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def server(tiny_store: Path, collector: Collector) -> Iterator[Server]:
    cage = "auto" if missing() else "required"
    settings = {"fronts": 2, "log_requests": True, "cage": cage, "grpc_port": 0}
    with Traced(tiny_store, collector.url, **settings) as server:
        yield server.wait_ready()


def spans_of(collector: Collector, trace: str, names: set[str]) -> dict[str, Span]:
    """The spans of a trace once all of those are there."""

    def look() -> dict[str, Span] | None:
        found = {span.name: span for span in collector.traces().get(trace, [])}
        return found if found.keys() >= names else None

    return eventually(look)


PARTS = {"read", "decode", "queue", "forward", "render"}


@pytest.mark.slow
def test_the_times_of_a_request_add_up(server: Server, collector: Collector) -> None:
    answer = server.http.post(
        "/predict", content=IMAGES[0], headers={"Content-Type": "image/png", "traceparent": SENT}
    )
    spans = spans_of(collector, TRACE, PARTS | {"POST /predict"})
    root = spans.pop("POST /predict")
    assert (root.parent, root.kind, root.service) == (PARENT, 2, "gsop")
    assert {span.parent for span in spans.values()} == {root.id}
    assert answer.headers["traceresponse"] == f"00-{TRACE}-{root.id}-01"

    told = answer.json()["timing_ms"]
    for name, part in (("decode", "decode"), ("queue", "queue"), ("forward", "inference")):
        assert spans[name].milliseconds == pytest.approx(told[part], abs=0.2), name
    between = sum(spans[name].milliseconds for name in PARTS - {"render"})
    assert between <= told["total"] + 0.1
    way = [spans[name] for name in ("read", "decode", "queue", "forward", "render")]
    assert all(root.began <= span.began <= span.ended <= root.ended for span in way)
    assert all(one.ended <= next_.began for one, next_ in pairwise(way))
    # From the last answer's end, by the visit's own clock, to the last byte.
    assert (way[-1].began - way[0].began) / 1e6 == pytest.approx(told["total"], abs=0.1)

    assert root.attributes["http.route"] == "/predict"
    assert root.attributes["http.response.status_code"] == 200
    assert (root.attributes["gsop.model"], root.attributes["gsop.role"]) == ("tiny", "stable")
    assert spans["forward"].attributes["gsop.prediction"] == answer.json()["id"]
    assert spans["forward"].attributes["gsop.batch_size"] == 1


@pytest.mark.slow
def test_every_image_has_its_spans(server: Server, collector: Collector) -> None:
    files = [("image", (f"{i}.png", image, "image/png")) for i, image in enumerate(IMAGES)]
    answer = server.http.post("/predict", files=[*files, ("image", ("x.png", b"no image"))])
    trace = answer.headers["traceresponse"].split("-")[1]
    spans_of(collector, trace, PARTS)
    spans = collector.traces()[trace]
    count = {name: sum(span.name == name for span in spans) for name in PARTS}
    assert count == {"read": 1, "decode": 4, "queue": 3, "forward": 3, "render": 1}
    images = {span.attributes["gsop.image"] for span in spans if span.name == "forward"}
    assert images == {0, 1, 2}


def infer(client: Any, module: Any, trace: str) -> None:
    """Ask by a client of the Open Inference Protocol, as part of a trace."""
    image = module.InferInput("image", [1], "BYTES")
    image.set_data_from_numpy(np.array(IMAGES[:1], object))
    with client:
        client.infer("tiny", [image], headers={"traceparent": f"00-{trace}-{PARENT}-01"})


@pytest.mark.slow
def test_the_inference_protocol_makes_the_same_spans(server: Server, collector: Collector) -> None:
    of_http, of_grpc = f"{101:032x}", f"{102:032x}"
    infer(triton_http.InferenceServerClient(server.url[len("http://") :]), triton_http, of_http)
    infer(triton_grpc.InferenceServerClient(address_of(server)), triton_grpc, of_grpc)
    for trace, name in (
        (of_http, "POST /v2/models/{name}/infer"),
        (of_grpc, f"{GRPC_SERVICE}/ModelInfer"),
    ):
        spans = spans_of(collector, trace, PARTS | {name})
        root = spans.pop(name)
        assert root.parent == PARENT
        assert {span.parent for span in spans.values()} == {root.id}
        assert spans.keys() == PARTS
        assert root.attributes["gsop.model"] == "tiny"
    assert root.attributes["rpc.grpc.status_code"] == 0


@pytest.mark.slow
def test_a_failed_call_over_grpc_is_told_by_its_code(server: Server, collector: Collector) -> None:
    trace = f"{103:032x}"
    with triton_grpc.InferenceServerClient(address_of(server)) as client:
        sent = {"traceparent": f"00-{trace}-{PARENT}-01"}
        with pytest.raises(triton_grpc.InferenceServerException):
            client.get_model_metadata("nothing", headers=sent)
    name = f"{GRPC_SERVICE}/ModelMetadata"
    root = spans_of(collector, trace, {name})[name]
    assert root.attributes["error.type"] == "unknown_model"
    assert not root.failed


@pytest.mark.slow
def test_traces_go_through_both_fronts(server: Server, collector: Collector) -> None:
    """Each connection is one front's; parents hold whoever answers."""
    parents = {}
    for number in range(12):
        trace, parent = f"{number + 1:032x}", f"{number + 1:016x}"
        sent = {"traceparent": f"00-{trace}-{parent}-01", "Connection": "close"}
        server.http.get("/models", headers=sent)
        parents[trace] = parent
    for trace, parent in parents.items():
        assert spans_of(collector, trace, {"GET /models"})["GET /models"].parent == parent
    fronts = {line["process"] for line in lines(server) if line.get("trace_id") in parents}
    assert fronts <= {"front 0", "front 1"}


def lines(server: Server) -> list[dict[str, object]]:
    return [json.loads(line) for line in server.log]


@pytest.mark.slow
def test_errors_are_told_by_their_code(server: Server, collector: Collector) -> None:
    asked = {"Content-Type": "image/png"}
    answer = server.http.post("/predict", content=b"no image", headers=asked)
    trace = answer.headers["traceresponse"].split("-")[1]
    root = spans_of(collector, trace, {"POST /predict"})["POST /predict"]
    assert root.attributes["error.type"] == "invalid_image"
    assert not root.failed  # the fault is the client's


@pytest.mark.slow
def test_a_callers_no_holds_and_probes_make_no_traces(server: Server, collector: Collector) -> None:
    answer = server.http.get("/models", headers={"traceparent": UNSENT})
    assert answer.headers["traceresponse"].endswith("-00")
    assert "traceresponse" not in server.http.get("/readyz").headers
    later = f"{99:032x}"
    server.http.get("/models", headers={"traceparent": f"00-{later}-{PARENT}-01"})
    spans_of(collector, later, {"GET /models"})
    assert TRACE[::-1] not in collector.traces()


@pytest.mark.slow
def test_lines_of_the_log_have_the_trace(server: Server) -> None:
    trace = f"{77:032x}"
    server.http.get("/models", headers={"traceparent": f"00-{trace}-{PARENT}-01"})
    (line,) = eventually(lambda: [line for line in lines(server) if line.get("trace_id") == trace])
    assert line["route"] == "/models"


@pytest.mark.slow
def test_spans_hold_nothing_that_a_client_wrote(server: Server, collector: Collector) -> None:
    trace = f"{55:032x}"
    server.http.get(
        f"/attention/{SECRET}?model={SECRET}",
        headers={
            "traceparent": f"00-{trace}-{PARENT}-01",
            "tracestate": f"vendor={SECRET}",
            "baggage": f"key={SECRET}",
            "User-Agent": SECRET,
        },
    )
    spans = spans_of(collector, trace, {"GET /attention/{id}"})
    assert SECRET not in repr(spans)


@pytest.mark.slow
def test_a_bucket_has_an_example(server: Server) -> None:
    """Also of those that the other front has answered."""
    trace = f"{66:032x}"
    sent = {"Content-Type": "image/png", "traceparent": f"00-{trace}-{PARENT}-01"}
    server.http.post("/predict", content=IMAGES[0], headers=sent)
    accept = {"Accept": "application/openmetrics-text;version=1.0.0", "Connection": "close"}
    text = server.http.get("/metrics", headers=accept).text
    examples = {
        sample.exemplar.labels["trace_id"]: (sample, sample.exemplar.value)
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar is not None
    }
    sample, seconds = examples[trace]
    assert (sample.name, sample.labels["route"]) == ("gsop_request_seconds_bucket", "/predict")
    assert 0 < seconds <= float(sample.labels["le"])
    assert "trace_id" not in server.http.get("/metrics").text


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["refusing", "hanging"])
def test_a_dead_collector_costs_nothing_and_is_counted(tiny_store: Path, kind: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if kind == "refusing":
            listener.close()
        with Traced(tiny_store, endpoint) as server:
            server.wait_ready()
            for number in range(20):
                assert server.predict(IMAGES[number % 3])["predictions"]
            eventually(lambda: server.metric("gsop_spans_lost_total", reason="unsent") > 0, 60)
            told = [line for line in lines(server) if "takes no spans" in str(line["message"])]
            assert len(told) == 1
            began = time.monotonic()
            assert server.terminate() == 0
            assert time.monotonic() - began < 30


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "remedy"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, "http://127.0.0.1:4318"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "set it to http/protobuf"),
    ],
)
def test_what_cannot_be_is_said(tiny_store: Path, variables: dict[str, str], remedy: str) -> None:
    server = Traced(tiny_store, "http://127.0.0.1:4318")
    server.environment |= variables
    status, log = server.run_to_end()
    assert status == 1
    assert re.search(re.escape(remedy), log[-1])

"""A collector of OpenTelemetry's spans on the loopback interface, which takes OTLP over HTTP."""

import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Span(NamedTuple):
    """A span as it came; times in Unix ns, ids in hexadecimal."""

    trace: str
    id: str
    parent: str
    name: str
    kind: int
    began: int
    ended: int
    attributes: dict[str, Any]
    failed: bool
    service: str
    state: str

    @property
    def milliseconds(self) -> float:
        return (self.ended - self.began) / 1e6


class Collector:
    """A context manager. ``delay`` is how long it lets each request wait for its answer."""

    def __init__(self, delay: float = 0.0) -> None:
        self.spans: list[Span] = []
        self._end = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if collector._end.wait(delay):
                    return
                collector.spans += _parse(body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def traces(self) -> dict[str, list[Span]]:
        """The spans by their trace."""
        found = defaultdict(list)
        for span in list(self.spans):
            found[span.trace].append(span)
        return found


def _parse(body: bytes) -> list[Span]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        Span(
            trace=span.trace_id.hex(),
            id=span.span_id.hex(),
            parent=span.parent_span_id.hex(),
            name=span.name,
            kind=span.kind,
            began=span.start_time_unix_nano,
            ended=span.end_time_unix_nano,
            attributes={a.key: _value(a.value) for a in span.attributes},
            failed=span.status.code == 2,
            service=next(
                a.value.string_value
                for a in resource.resource.attributes
                if a.key == "service.name"
            ),
            state=span.trace_state,
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))

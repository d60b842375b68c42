"""Spans by OpenTelemetry's SDK: a request's, and below it those of its parts.

======  ===========================================================================
read    from the request's head to the last byte of its body
decode  an image's, in a decoder
queue   from there until its batch begins
forward its batch on the device
render  from the last answer to the last byte of the response
======  ===========================================================================

They are sent by a thread, from a bounded queue. What a collector does, or that there is none,
changes nothing but ``gsop_spans_lost_total``.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace import Tracer as SdkTracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import gsop
from gsop.api.tracing import Ended, Lookup
from gsop.arena.counters import Meter
from gsop.arena.families import SPANS_LOST
from gsop.serving.classify import Visit, Way

log = logging.getLogger("gsop.front")

MOST_WAITING = 2048
"""Spans that wait to be sent, or are being sent; of more, the newest are lost."""

CLOSE_SECONDS = 2.0
"""How long the end of a process waits for what has not been sent."""

_IDS = RandomIdGenerator()
_PROPAGATOR = TraceContextTextMapPropagator()


class OtelTracer:
    """A process's :class:`~gsop.api.tracing.Tracer`. The SDK's variables (``OTEL_*``) hold."""

    def __init__(self, meter: Meter) -> None:
        for library in ("opentelemetry", "urllib3"):  # they would log each failure at length
            logging.getLogger(library).setLevel(logging.CRITICAL)
        ours = Resource({"service.name": "gsop", "service.version": gsop.__version__})
        self._provider = TracerProvider(
            resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
        )
        self._exporter = _Exporter(OTLPSpanExporter(), meter)
        self._processor = _Processor(self._exporter, meter)
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("gsop", gsop.__version__)

    def begin(self, name: str, header: Lookup) -> "OtelTrace":
        """A request begins."""
        return OtelTrace(self._tracer, self._processor, name, header)

    def flush(self) -> None:
        """Send what waits."""
        self._provider.force_flush()

    def close(self) -> None:
        """Send what waits, for a moment, and stop."""
        # Neither of the SDK's ways to end takes a bound that holds while a collector hangs.
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(CLOSE_SECONDS)
        self._processor.give_up()


class OtelTrace:
    """A request's :class:`~gsop.api.tracing.Trace`."""

    def __init__(self, tracer: SdkTracer, sink: SpanProcessor, name: str, header: Lookup) -> None:
        self._sink = sink
        self._began = time.monotonic_ns()
        self._wall = time.time_ns() - self._began
        self._span = tracer.start_span(
            name, _parent(header), SpanKind.SERVER, start_time=self._began + self._wall
        )
        self._context = self._span.get_span_context()

    @property
    def id(self) -> str:
        """32 hexadecimal digits."""
        return f"{self._context.trace_id:032x}"

    @property
    def header(self) -> str:
        """The value of ``traceresponse``."""
        return f"00-{self.id}-{self._context.span_id:016x}-{self._context.trace_flags:02x}"

    @property
    def is_kept(self) -> bool:
        """Whether its spans are sent."""
        return self._span.is_recording()

    def end(self, ended: Ended) -> None:
        """Make the spans."""
        now, span = time.monotonic_ns(), self._span
        if not isinstance(span, SdkSpan) or not span.is_recording():
            return
        span.update_name(ended.name)
        span.set_attributes(ended.attributes)
        if ended.failed:
            span.set_status(Status(StatusCode.ERROR))
        if ended.visit is not None:
            self._add_parts(span, ended.visit, now)
        span.end(now + self._wall)

    def _add_parts(self, root: SdkSpan, visit: Visit, now: int) -> None:
        model = visit.model.manifest
        root.set_attributes(
            {
                "gsop.model": model.name,
                "gsop.version": model.version,
                "gsop.role": visit.role,
                "gsop.images": len(visit.ways),
            }
        )
        self._add(root, "read", visit.began, visit.read or now, {})
        for number, way in enumerate(visit.ways):
            self._add_way(root, way, visit.answered or now, {"gsop.image": number})
        if visit.answered:
            self._add(root, "render", visit.answered, now, {})

    def _add_way(self, root: SdkSpan, way: Way, end: int, which: Mapping[str, int]) -> None:
        if not way.began:
            return
        self._add(root, "decode", way.began, way.decoded or end, which)
        if not way.decoded:
            return
        answer = way.inference
        if answer is None:
            self._add(root, "queue", way.decoded, end, which)
        else:
            self._add(root, "queue", answer.submitted, answer.started, which)
            told: dict[str, str | int] = {
                **which,
                "gsop.prediction": answer.id,
                "gsop.engine": answer.engine,
                "gsop.batch_size": answer.batch,
            }
            self._add(root, "forward", answer.started, answer.finished, told)

    def _add(
        self, root: SdkSpan, name: str, began: int, ended: int, told: Mapping[str, str | int]
    ) -> None:
        # Made whole: what the SDK's own way does for spans that are open would only cost.
        context = self._context
        own = SpanContext(context.trace_id, _IDS.generate_span_id(), False, context.trace_flags)
        self._sink.on_end(
            ReadableSpan(
                name,
                own,
                context,
                root.resource,
                told,
                start_time=began + self._wall,
                end_time=ended + self._wall,
                instrumentation_scope=root.instrumentation_scope,
            )
        )


def _parent(header: Lookup) -> Context:
    parent = header("traceparent")
    if parent is None:
        return Context()
    # Not ``tracestate``: nobody is asked onwards who would read it, and spans would hold it.
    return _PROPAGATOR.extract({"traceparent": parent}, Context())


class _Exporter(SpanExporter):
    """The SDK's, with what it loses counted, and said when it begins and ends to.

    Attributes:
        taken: spans that were sent or lost. Written by the thread that sends.
    """

    def __init__(self, exporter: SpanExporter, meter: Meter) -> None:
        self.taken = 0
        self._exporter = exporter
        self._meter = meter
        self._works = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans."""
        result = self._exporter.export(spans)
        works = result is SpanExportResult.SUCCESS
        if not works:
            self._meter.add(SPANS_LOST, len(spans), "unsent")
        if works != self._works:
            if works:
                log.info("the collector of traces takes spans again")
            else:
                log.warning(
                    "the collector of traces (OTEL_EXPORTER_OTLP_ENDPOINT) takes no spans: they "
                    "are lost, which gsop_spans_lost_total counts"
                )
        self._works = works
        self.taken += len(spans)
        return result

    def shutdown(self) -> None:
        """Stop."""
        self._exporter.shutdown()


class _Processor(BatchSpanProcessor):
    """The SDK's, with a bound on what waits or is on its way, and what is beyond it counted."""

    def __init__(self, exporter: _Exporter, meter: Meter) -> None:
        super().__init__(exporter, max_queue_size=MOST_WAITING)
        self._ended = 0
        self._taken_by = exporter
        self._meter = meter

    def on_end(self, span: ReadableSpan) -> None:
        """A span has ended."""
        if self._ended - self._taken_by.taken >= MOST_WAITING:
            self._meter.add(SPANS_LOST, 1, "full")
            return
        self._ended += 1
        super().on_end(span)

    def give_up(self) -> None:
        """What was not sent is lost."""
        self._meter.add(SPANS_LOST, self._ended - self._taken_by.taken, "full")

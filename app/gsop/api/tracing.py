"""Traces, as whoever serves a request sees them; nothing of OpenTelemetry is imported here.

A request's spans are made when it is over, of times that are known by then: the way of an image
costs nothing more. Where no collector is named (``OTEL_EXPORTER_OTLP_ENDPOINT``), a request has no
trace, and costs one look at ``None``. A protocol begins a trace, and ends it::

    trace = service.tracer and service.tracer.begin("POST", headers.get)
    …
    if trace is not None:
        trace.end(Ended("POST /predict", attributes, failed=False, visit=VISIT.get()))
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from gsop.arena.counters import Meter
from gsop.environment import collector
from gsop.errors import ConfigError
from gsop.serving.classify import Visit

Lookup = Callable[[str], str | None]
"""The value of a request's header, by its name in small letters."""


@dataclass(frozen=True)
class Ended:
    """What is known of a request when it is over.

    Attributes:
        name: of its span: the method and the route, never a path.
        attributes: of its span; nothing that the client has written.
        failed: whether the fault is the service's.
        visit: of the images that it brought, if it got so far.
    """

    name: str
    attributes: Mapping[str, str | int]
    failed: bool
    visit: Visit | None


class Trace(Protocol):
    """One request's trace.

    Attributes:
        id: 32 hexadecimal digits.
        header: what ``traceresponse`` tells of it (W3C Trace Context, level 2).
        is_kept: whether its spans are sent: a caller's choice, or the sampler's.
    """

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def header(self) -> str: ...  # noqa: D102
    @property
    def is_kept(self) -> bool: ...  # noqa: D102
    def end(self, ended: Ended) -> None:
        """Make the spans."""


class Tracer(Protocol):
    """Makes traces."""

    def begin(self, name: str, header: Lookup) -> Trace:
        """A request begins: go on with its caller's trace (``traceparent``), or begin one."""

    def close(self) -> None:
        """Send what waits, for a moment, and stop."""


def check() -> None:
    """See that traces can be made if they are wanted.

    Raises:
        ConfigError: if not.
    """
    if collector() is not None:
        _load()


def open_tracer(meter: Meter) -> Tracer | None:
    """This process's tracer; ``None`` if no collector is named."""
    return _load()(meter) if collector() is not None else None


def _load() -> Callable[[Meter], Tracer]:
    try:
        from gsop.api.spans import OtelTracer
    except ImportError as error:
        raise ConfigError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, and {error.name} is not installed: "
            "pip install '.[otel]', or set OTEL_SDK_DISABLED=true"
        ) from error
    return OtelTracer

"""The outermost layer: request ids, counts, and the last word on defects."""

import logging
import re
import secrets
import time
from typing import cast

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gsop.api.http.access import caller_of, changes_something
from gsop.api.http.browsers import protect
from gsop.api.http.problems import ERROR_CODE, internal_error
from gsop.api.http.routes import HEALTHZ, METRICS, READYZ, V2_LIVE, V2_READY, route_of
from gsop.api.http.service import TOLD, Service
from gsop.api.tracing import Ended, Trace
from gsop.arena.families import CLIENT_LEFT, OTHER
from gsop.arena.states import Phase
from gsop.logs import REQUEST_ID, TRACE_ID
from gsop.serving.classify import VISIT, CallerLeft
from gsop.store.catalog import is_name

log = logging.getLogger("gsop.front")

_FREQUENT = frozenset({HEALTHZ, READYZ, METRICS, V2_LIVE, V2_READY})
METHOD_NOT_ALLOWED = 405
_SANE_ID = re.compile(rb"[A-Za-z0-9._~+/=-]{1,128}")


class Telemetry:
    """Gives each request an id (its own ``X-Request-Id``, or a new one) and counts its answer."""

    def __init__(self, app: ASGIApp, *, log_requests: bool = False) -> None:
        self._app = app
        self._log_requests = log_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        REQUEST_ID.set(request_id.decode())  # of this request's own task
        began = time.perf_counter()
        trace = _begin_trace(scope)
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
                protect(message["headers"])
                if trace is not None:
                    message["headers"].append((b"traceresponse", trace.header.encode()))
                if _service(scope).generations.board.phase != Phase.SERVING:
                    # The client must not send another request on a connection that will be closed.
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            await self._app(scope, receive, send_marked)
        except (ClientDisconnect, CallerLeft):
            status = CLIENT_LEFT
        except Exception:  # the one place where a defect becomes an answer
            log.exception("the request ran into a defect")
            if status:
                raise  # the answer has begun; only the broken connection can tell the client
            await internal_error()(scope, receive, send_marked)
        finally:
            meter = _service(scope).generations.meter
            seconds = time.perf_counter() - began
            # A request that was refused at the door has no route yet, but a call that it is of.
            route = getattr(scope.get("route"), "path", None) or route_of(scope["path"]) or OTHER
            meter.count_request(route, status, seconds)
            if trace is not None:
                if trace.is_kept and status != CLIENT_LEFT:
                    _service(scope).exemplars.keep(route, seconds, trace.id)
                trace.end(_ended(scope, route, status))
            is_call = route != OTHER and status != METHOD_NOT_ALLOWED
            if is_call and changes_something(scope["path"], scope["method"]):
                # Who may call it has been seen by now. What is no name of anything is not told.
                told = {"route": route, "status": status, "client": caller_of(scope).name or None}
                if status not in (401, 403):
                    given = scope.get("path_params", {})
                    told["of"] = {k: name for k, name in given.items() if is_name(name)}
                log.info("an operator's call", extra={"members": told})
            if self._log_requests:
                # The route, not the path: what a client writes there is its own.
                members = {
                    "route": route,
                    "method": scope["method"],
                    "status": status,
                    "ms": round(seconds * 1000, 3),
                    "client": caller_of(scope).name or None,
                    **scope.get(TOLD, {}),
                }
                log.info("a request was answered", extra={"members": members})


def _begin_trace(scope: Scope) -> Trace | None:
    """The trace of a request, if traces are made; of probes and scrapes only where one goes on."""
    tracer = _service(scope).tracer
    if tracer is None:
        return None
    headers = Headers(scope=scope)
    if scope["path"] in _FREQUENT and "traceparent" not in headers:
        return None
    trace = tracer.begin(scope["method"], headers.get)
    TRACE_ID.set(trace.id)
    return trace


def _ended(scope: Scope, route: str, status: int) -> Ended:
    """What a trace tells of a request: nothing that its client wrote, the path included."""
    attributes: dict[str, str | int] = {
        "http.request.method": scope["method"],
        "http.route": route,
        "http.response.status_code": status,
        "url.scheme": scope["scheme"],
        "network.protocol.version": scope["http_version"],
    }
    if status >= 400:
        attributes["error.type"] = scope.get(ERROR_CODE, str(status))
    if caller := caller_of(scope).name:
        attributes["gsop.client"] = caller
    return Ended(f"{scope['method']} {route}", attributes, status >= 500, VISIT.get())


def _service(scope: Scope) -> Service:
    return cast("Service", scope["app"].state.service)


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            return bytes(value)
    return secrets.token_hex(8).encode()

"""The Open Inference Protocol over gRPC: its calls, their callers, and what they are refused with.

Messages are taken apart here rather than by gRPC, for which one that is none is a defect of the
service (``INTERNAL``) and not of the client.
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError

from gsop.api.http import access
from gsop.api.http.body_limits import MAX_SMALL_BYTES
from gsop.api.http.health import is_alive, unreadiness
from gsop.api.http.models import stored_versions
from gsop.api.http.routes import GRPC_SERVICE, grpc_route
from gsop.api.http.service import Service
from gsop.api.oip import grpc_messages, metadata, repository
from gsop.api.oip import inference_pb2 as pb
from gsop.api.oip.grpc_reading import Messages, Reading
from gsop.api.oip.grpc_wire import look_over
from gsop.api.oip.inference import infer
from gsop.api.oip.statistics import statistics
from gsop.api.tracing import Ended, Trace
from gsop.arena.families import CLIENT_LEFT
from gsop.errors import (
    BodyTooLarge,
    GSoPError,
    LoadFailed,
    RequestError,
    SetupError,
    Unavailable,
    UnknownModel,
)
from gsop.keys import ANYBODY, Caller, KeyScope
from gsop.logs import REQUEST_ID, TRACE_ID
from gsop.serving.classify import VISIT
from gsop.store.catalog import is_name

log = logging.getLogger("gsop.front")

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""gRPC's word for each status; of others ``INTERNAL``."""

_SANE_ID = re.compile(r"[A-Za-z0-9._~+/=-]{1,128}")

PREDICT = frozenset({KeyScope.PREDICT, KeyScope.ADMIN})
TOLD = frozenset({KeyScope.PREDICT, KeyScope.ATTENTION, KeyScope.ADMIN})
ADMIN = frozenset({KeyScope.ADMIN})
OPEN: frozenset[KeyScope] = frozenset()
"""Needs no key."""

Context = Any
Answer = Awaitable[Any]
Answering = Callable[[Any, Caller, Context], Answer]
Trailing = tuple[tuple[str, str], ...]


class Calls:
    """The calls of one front.

    Attributes:
        reading: how their messages come.
        under_way: the tasks that answer calls now.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self.reading = Reading(service.settings)
        self.under_way: set[asyncio.Task[Any]] = set()

    def handler(self) -> grpc.GenericRpcHandler:
        """All calls, as a server wants them."""
        calls: dict[str, tuple[frozenset[KeyScope], Answering]] = {
            "ServerLive": (OPEN, self._server_live),
            "ServerReady": (OPEN, self._server_ready),
            "ServerMetadata": (TOLD, self._server_metadata),
            "ModelReady": (TOLD, self._model_ready),
            "ModelMetadata": (TOLD, self._model_metadata),
            "ModelConfig": (TOLD, self._model_config),
            "ModelStatistics": (ADMIN, self._model_statistics),
            "ModelInfer": (PREDICT, self._model_infer),
            "RepositoryIndex": (TOLD, self._repository_index),
            "RepositoryModelLoad": (ADMIN, self._load),
            "RepositoryModelUnload": (ADMIN, self._unload),
        }
        # All take a stream of requests, of which there is one: so a call can be refused before its
        # message is read.
        return grpc.method_handlers_generic_handler(
            GRPC_SERVICE,
            {
                name: grpc.stream_unary_rpc_method_handler(
                    _Call(self, self._service, name, scopes, answer).run,
                    response_serializer=lambda message: message.SerializeToString(),
                )
                for name, (scopes, answer) in calls.items()
            },
        )

    def admit(self, authorization: str | None, scopes: frozenset[KeyScope]) -> Caller:
        """The caller whose key came; raises as :func:`~gsop.api.http.access.admit`."""
        if not self._service.settings.api_keys or not scopes:
            return ANYBODY
        return access.admit(self._service, (authorization or "").encode(), scopes)

    async def _server_live(self, *_: object) -> Any:
        return pb.ServerLiveResponse(live=is_alive(self._service))

    async def _server_ready(self, *_: object) -> Any:
        return pb.ServerReadyResponse(ready=unreadiness(self._service) is None)

    async def _server_metadata(self, *_: object) -> Any:
        return ParseDict(metadata.server(), pb.ServerMetadataResponse())

    async def _model_ready(self, message: Any, *_: object) -> Any:
        try:
            metadata.find(self._service, message.name, message.version)
        except UnknownModel:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=unreadiness(self._service) is None)

    async def _model_metadata(self, message: Any, caller: Caller, _: Context) -> Any:
        found = metadata.find(self._service, message.name, message.version)
        told = metadata.model(self._service, found, caller)
        return ParseDict(told, pb.ModelMetadataResponse())

    async def _model_config(self, message: Any, caller: Caller, _: Context) -> Any:
        found = metadata.find(self._service, message.name, message.version)
        told = {"config": metadata.config(self._service, found, caller)}
        return ParseDict(told, pb.ModelConfigResponse())

    async def _model_statistics(self, message: Any, *_: object) -> Any:
        service = self._service
        models = service.engines.models
        if message.name:
            models = [metadata.find(service, message.name, message.version)]
        return ParseDict(statistics(service, models), pb.ModelStatisticsResponse())

    async def _model_infer(self, message: Any, caller: Caller, context: Context) -> Any:
        classifier = self._service.classifier
        request = grpc_messages.read(message)
        remaining = context.time_remaining()
        if remaining is not None:
            theirs = max(1, round(remaining * 1000))
            request = replace(request, timeout_ms=min(request.timeout_ms or theirs, theirs))
        found = dict(context.invocation_metadata())
        admitted = classifier.admit(
            message.model_name or None,
            message.model_version or None,
            caller,
            context.peer().rpartition(":")[0],
            lambda name: _text(found.get(name)),
        )
        with admitted as visit:
            visit.memory.add(message.ByteSize())
            answer = await infer(
                visit,
                request,
                name=message.model_name or visit.model.manifest.name,
                caller=caller,
                most=classifier.max_images,
                watch=_unwatched,
            )
        return grpc_messages.write(answer)

    async def _repository_index(self, message: Any, *_: object) -> Any:
        stored = await asyncio.to_thread(stored_versions, self._service)
        rows = metadata.index(self._service, stored, ready_only=message.ready)
        return ParseDict({"models": rows}, pb.RepositoryIndexResponse())

    async def _load(self, message: Any, caller: Caller, _: Context) -> Any:
        await repository.load(self._service, message.model_name, _version(message), caller)
        return pb.RepositoryModelLoadResponse()

    async def _unload(self, message: Any, caller: Caller, _: Context) -> Any:
        await repository.unload(self._service, message.model_name, _version(message), caller)
        return pb.RepositoryModelUnloadResponse()


class _Call:
    """One call: what comes before its answer and after it."""

    def __init__(
        self,
        calls: Calls,
        service: Service,
        name: str,
        scopes: frozenset[KeyScope],
        answer: Answering,
    ) -> None:
        self._calls, self._service, self._scopes, self._answer = calls, service, scopes, answer
        self._route = grpc_route(name)
        self._request = getattr(pb, f"{name}Request")
        self._is_costly = name == "ModelInfer"
        self._is_change = name in ("RepositoryModelLoad", "RepositoryModelUnload")

    async def run(self, messages: Messages, context: Context) -> Any:
        """Answer it. gRPC waits for coroutine functions alone, and not for objects like them."""
        task = asyncio.current_task()
        assert task is not None, "gRPC begins one for each call"  # noqa: S101
        self._calls.under_way.add(task)
        task.add_done_callback(self._calls.under_way.discard)
        began, status, caller = time.perf_counter(), 500, ANYBODY
        found, code = dict(context.invocation_metadata()), GSoPError.code
        id_ = _request_id(found)
        REQUEST_ID.set(id_)
        trace = self._begin_trace(found)
        own: Trailing = (("x-request-id", id_),)
        if trace is not None:
            own = (*own, ("traceresponse", trace.header))
        context.set_trailing_metadata(own)
        answer = message = None
        try:
            caller = self._calls.admit(_text(found.get("authorization")), self._scopes)
            if self._is_costly:
                self._service.engines.check_admission()
            message = await self._read(messages, context.peer().rpartition(":")[0])
            answer = await self._answer(message, caller, context)
            status = 200
        except GSoPError as error:
            status, code = error.status, error.code
            _refuse(context, own, error)
        except asyncio.CancelledError:
            status = CLIENT_LEFT
            raise
        except Exception:  # the one place where a defect becomes an answer
            log.exception("the request ran into a defect")
            defect = GSoPError("the request could not be answered; the fault is logged")
            _refuse(context, own, defect)
        finally:
            seconds = time.perf_counter() - began
            self._service.generations.meter.count_request(self._route, status, seconds)
            if trace is not None:
                if trace.is_kept and status != CLIENT_LEFT:
                    self._service.exemplars.keep(self._route, seconds, trace.id)
                trace.end(self._ended(caller, status, code))
            if self._is_change:
                self._tell(caller, status, message)
            if self._service.settings.log_requests:
                self._log(caller, status, seconds)
        return answer

    def _begin_trace(self, found: dict[str, Any]) -> Trace | None:
        """The trace of a call, if traces are made; of probes only where one goes on."""
        tracer = self._service.tracer
        if tracer is None or (not self._scopes and "traceparent" not in found):
            return None
        trace = tracer.begin(self._route, lambda name: _text(found.get(name)))
        TRACE_ID.set(trace.id)
        return trace

    def _ended(self, caller: Caller, status: int, code: str) -> Ended:
        """What a trace tells of a call: nothing that its client wrote."""
        service, _, method = self._route.strip("/").rpartition("/")
        attributes: dict[str, str | int] = {
            "rpc.system": "grpc",
            "rpc.service": service,
            "rpc.method": method,
            "rpc.grpc.status_code": 0 if status == 200 else _code(status).value[0],
        }
        if status >= 400:
            attributes["error.type"] = str(status) if status == CLIENT_LEFT else code
        if caller.name:
            attributes["gsop.client"] = caller.name
        return Ended(self._route.strip("/"), attributes, status >= 500, VISIT.get())

    async def _read(self, messages: Messages, address: str) -> Any:
        """The call's message, taken apart.

        Raises:
            GSoPError: of :meth:`Reading.read`.
            BodyTooLarge: if it is larger than a message without images can be.
            RequestError: if it is none of that call.
        """
        data = await self._calls.reading.read(messages, address)
        if self._is_costly:
            look_over(data)
        elif len(data) > MAX_SMALL_BYTES:
            raise BodyTooLarge(f"a message of this call has at most {MAX_SMALL_BYTES} bytes")
        try:
            return self._request.FromString(data)
        except DecodeError as error:
            raise RequestError("the message is none of this call") from error

    def _tell(self, caller: Caller, status: int, message: Any) -> None:
        """Log who asked for a change, and of what, as over HTTP."""
        members = {"route": self._route, "status": status, "client": caller.name or None}
        if message is not None:
            named = message.model_name
            members["of"] = {"name": named} if is_name(named) else {}
        log.info("an operator's call", extra={"members": members})

    def _log(self, caller: Caller, status: int, seconds: float) -> None:
        members = {
            "route": self._route,
            "method": "POST",
            "status": status,
            "ms": round(seconds * 1000, 3),
            "client": caller.name or None,
        }
        log.info("a request was answered", extra={"members": members})


def _code(status: int) -> grpc.StatusCode:
    """The word of gRPC for a status of ours that is no success."""
    if status == CLIENT_LEFT:
        return grpc.StatusCode.CANCELLED
    return _CODES.get(status, grpc.StatusCode.INTERNAL)


def _refuse(context: Context, own: Trailing, error: GSoPError) -> None:
    """Answer with an error, whose own code comes behind gRPC's.

    Not by ``context.abort()``: what that raises holds the frames that it came through, they hold
    the context, and that holds what was raised. The message in them, of megabytes, would stay until
    Python next looks for such rings, which it seldom does where objects are few and large.
    """
    code = _code(error.status)
    if isinstance(error, LoadFailed):
        code = grpc.StatusCode.FAILED_PRECONDITION
    trailing = [*own, ("code", error.code)]
    if isinstance(error, Unavailable):
        trailing.append(("retry-after", str(error.retry_after)))
    text = error.shown
    if isinstance(error, SetupError):  # it names the operator's files
        log.error("%s", error)
        text = "the service is not set up right"
    elif code == grpc.StatusCode.INTERNAL:
        log.error("the request failed: %s", error.code)
    context.set_code(code)
    context.set_details(text)
    context.set_trailing_metadata(tuple(trailing))


def _unwatched(_: Callable[[], None] | None) -> None:
    """GRPC itself cancels the call of a client that leaves."""


def _request_id(found: dict[str, Any]) -> str:
    given = _text(found.get("x-request-id"))
    return given if given and _SANE_ID.fullmatch(given) else secrets.token_hex(8)


def _text(value: str | bytes | None) -> str | None:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _version(message: Any) -> str | None:
    version = grpc_messages.parameters(message.parameters).get("version")
    if version is not None and not isinstance(version, str):
        raise RequestError("the parameter 'version' must be a text")
    return version

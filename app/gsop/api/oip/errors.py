"""Errors as the Open Inference Protocol's clients read them: ``error`` in each problem.

And as ``application/json``: of what is called ``application/problem+json`` KServe's client passes
the text over.
"""

from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gsop.api.http.problems import MEDIA_TYPE
from gsop.api.http.routes import V2

JSON = "application/json"


def is_of_protocol(path: str) -> bool:
    """Whether a call is one of the protocol's."""
    return (path + "/").startswith(V2 + "/")


def document_errors(text: dict[str, Any]) -> None:
    """Have the OpenAPI text say how these errors are called."""
    for path, operations in text["paths"].items():
        if is_of_protocol(path):
            for operation in operations.values():
                for status, response in operation["responses"].items():
                    content = response.get("content", {})
                    if MEDIA_TYPE in content:
                        # What is no HTTP is refused before its path is known.
                        others = content if status == "400" else {}
                        response["content"] = {JSON: content[MEDIA_TYPE], **others}


class ErrorMember:
    """Adds ``error``, the problem's text, to the problems of all calls of the protocol.

    The outermost layer, so that nothing answers these calls behind its back: keys, routes that are
    not there, and defects too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and is_of_protocol(scope["path"]):
            send = _Extended(send)
        await self._app(scope, receive, send)


class _Extended:
    """Sends what is sent to it, and problems with one member more."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_problem(message):
            self._start = message
            return
        if self._start is not None:
            start, self._start = self._start, None
            body = _extended(message["body"])
            changed = {b"content-type": JSON.encode(), b"content-length": b"%d" % len(body)}
            headers = [(name, changed.get(name, value)) for name, value in start["headers"]]
            await self._send({**start, "headers": headers})
            message = {**message, "body": body}
        await self._send(message)


def _is_problem(start: Message) -> bool:
    return (b"content-type", MEDIA_TYPE.encode()) in start["headers"]


def _extended(body: bytes) -> bytes:
    problem: dict[str, Any] = orjson.loads(body)
    return orjson.dumps(problem | {"error": problem["detail"] or problem["title"]})

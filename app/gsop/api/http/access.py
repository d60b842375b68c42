"""Who may call what: API keys in ``Authorization: Bearer KEY`` (RFC 6750).

A middleware before all routes rather than a dependency of each: what is not listed here needs
``admin``, so a new route cannot be forgotten, and without keys it is not even installed.
"""

from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from gsop.api.http.problems import documented, problem_response
from gsop.errors import Forbidden, Unauthorized
from gsop.keys import ANYBODY, ApiKey, Caller, KeyScope, recognise

OPEN = frozenset({"/", "/docs", "/openapi.json", "/healthz", "/readyz"})
"""Needs no key: the pages and documents, which hold nothing of anybody, and what probes ask."""

OPEN_FOLDER = "/web/"
"""What the pages are made of."""

_SUFFICES = {
    "predict": frozenset({KeyScope.PREDICT}),
    "preprocess": frozenset({KeyScope.PREDICT}),
    "attention": frozenset({KeyScope.ATTENTION}),
    "inspect": frozenset({KeyScope.ATTENTION}),
    "models": frozenset({KeyScope.PREDICT, KeyScope.ATTENTION}),
}
"""By the first part of the path, the scopes of which one suffices beside ``admin``."""

_CALLER = "gsop.caller"


def caller_of(scope: Scope) -> Caller:
    """Who sent the request of this ASGI scope."""
    caller: Caller = scope.get(_CALLER, ANYBODY)
    return caller


class Access:
    """Lets a request through if its key may do what it asks for."""

    def __init__(self, app: ASGIApp, keys: tuple[ApiKey, ...]) -> None:
        self._app = app
        self._keys = keys
        self._callers = [Caller(key.name, i + 1, key.scopes) for i, key in enumerate(keys)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and is_open(scope["path"])):
            await self._app(scope, receive, send)
            return
        try:
            scope[_CALLER] = self._admit(scope)
        except (Unauthorized, Forbidden) as error:
            await problem_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope) -> Caller:
        key = _bearer(scope["headers"])
        if key is None:
            raise Unauthorized("the call needs an API key; send it as Authorization: Bearer KEY")
        number = recognise(self._keys, key)
        if number is None:
            raise Unauthorized("the API key is not known; ask the operator for another")
        caller, needed = self._callers[number], sufficient(scope["path"], scope["method"])
        if not caller.scopes & needed:
            names = " or ".join(sorted(needed))
            raise Forbidden(f"the call needs a key with the scope {names}; ask the operator")
        return caller


def is_open(path: str) -> bool:
    """Whether a call needs no key."""
    return path in OPEN or path.startswith(OPEN_FOLDER)


def sufficient(path: str, method: str) -> frozenset[KeyScope]:
    """The scopes of which one suffices for a call that is not :data:`OPEN`."""
    first = path.split("/", 2)[1] if path.startswith("/") else ""
    if first == "models" and path.endswith("/drift"):
        first = "attention"  # it tells of gates, so it needs what those need
    if first == "models" and method.upper() not in ("GET", "HEAD"):
        return frozenset({KeyScope.ADMIN})
    return _SUFFICES.get(first, frozenset()) | {KeyScope.ADMIN}


def _bearer(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.partition(b" ")
            return key.strip() if scheme.lower() == b"bearer" else None
    return None


def document_access(text: dict[str, Any]) -> None:
    """Have the OpenAPI text say which calls need a key, and what they answer without one."""
    components = text.setdefault("components", {})
    components["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key, where the operator has set some (`GSOP_API_KEYS`).",
        }
    }
    refusals = {
        str(status): {"description": entry["description"], "content": entry["content"]}
        for status, entry in documented(Unauthorized, Forbidden).items()
    }
    for entry in refusals.values():
        for content in entry["content"].values():
            content["schema"] = {"$ref": "#/components/schemas/Problem"}
    for path, operations in text["paths"].items():
        if path not in OPEN:
            for method, operation in operations.items():
                # The empty alternative: without keys in the settings, none is needed.
                operation["security"] = [{"key": sorted(sufficient(path, method))}, {}]
                operation["responses"] |= refusals

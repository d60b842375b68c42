"""Who may call what: API keys in ``Authorization: Bearer KEY`` (RFC 6750).

A middleware before all routes rather than a dependency of each: what is not listed here needs
``admin``, so a new route cannot be forgotten, and without keys it is not even installed.
"""

from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from gsop.api.http.problems import document_refusals, problem_response
from gsop.api.http.service import Service
from gsop.errors import Forbidden, RateLimited, Unauthorized
from gsop.keys import ANYBODY, Caller, KeyScope

OPEN = frozenset(
    {"/", "/docs", "/openapi.json", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"}
)
"""Needs no key: the pages and documents, which hold nothing of anybody, and what probes ask."""

OPEN_FOLDER = "/web/"
"""What the pages are made of."""

_SUFFICES = {
    "predict": frozenset({KeyScope.PREDICT}),
    "preprocess": frozenset({KeyScope.PREDICT}),
    "attention": frozenset({KeyScope.ATTENTION}),
    "inspect": frozenset({KeyScope.ATTENTION}),
    "models": frozenset({KeyScope.PREDICT, KeyScope.ATTENTION}),
    "descriptions": frozenset({KeyScope.PREDICT, KeyScope.ATTENTION}),
}
"""By the first part of the path, the scopes of which one suffices beside ``admin``."""

_CALLER = "gsop.caller"


def caller_of(scope: Scope) -> Caller:
    """Who sent the request of this ASGI scope."""
    caller: Caller = scope.get(_CALLER, ANYBODY)
    return caller


def admit(service: Service, authorization: bytes, needed: frozenset[KeyScope]) -> Caller:
    """The caller whose key came.

    Args:
        service: that has keys.
        authorization: the header's value; empty if there was none.
        needed: the scopes of which one suffices.

    Raises:
        Unauthorized: if no key came, or one that is not known.
        Forbidden: if the key has none of the scopes.
        RateLimited: if it has been used too often lately.
    """
    scheme, _, key = authorization.partition(b" ")
    if scheme.lower() != b"bearer":
        raise Unauthorized("the call needs an API key; send it as Authorization: Bearer KEY")
    caller = service.callers.admit(key.strip())
    if not caller.scopes & needed:
        names = " or ".join(sorted(needed))
        raise Forbidden(f"the call needs a key with the scope {names}; ask the operator")
    return caller


class Access:
    """Lets a request through if its key may do what it asks for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and is_open(scope["path"])):
            await self._app(scope, receive, send)
            return
        try:
            scope[_CALLER] = _admit(scope)
        except (Unauthorized, Forbidden, RateLimited) as error:
            await problem_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _admit(scope: Scope) -> Caller:
    service: Service = scope["app"].state.service
    needed = sufficient(scope["path"], scope["method"])
    return admit(service, _authorization(scope["headers"]), needed)


def changes_something(path: str, method: str) -> bool:
    """Whether a call is for operators alone, and changes what is served."""
    is_operators = sufficient(path, method) == {KeyScope.ADMIN}
    return is_operators and method.upper() not in ("GET", "HEAD", "OPTIONS")


def is_open(path: str) -> bool:
    """Whether a call needs no key."""
    return path in OPEN or path.startswith(OPEN_FOLDER)


def sufficient(path: str, method: str) -> frozenset[KeyScope]:
    """The scopes of which one suffices for a call that is not :data:`OPEN`."""
    first = path.split("/", 2)[1] if path.startswith("/") else ""
    if first == "v2":
        first = _like(path)
    if first == "models" and path.endswith("/drift"):
        first = "attention"  # it tells of gates, so it needs what those need
    if first == "models" and method.upper() not in ("GET", "HEAD"):
        return frozenset({KeyScope.ADMIN})
    return _SUFFICES.get(first, frozenset()) | {KeyScope.ADMIN}


def _like(path: str) -> str:
    """The part of ours that a call of the Open Inference Protocol is like."""
    if path.endswith("/infer"):
        return "predict"
    is_told = path in ("/v2", "/v2/repository/index") or path.startswith("/v2/models/")
    return "descriptions" if is_told and not path.endswith("/stats") else ""


def _authorization(headers: list[tuple[bytes, bytes]]) -> bytes:
    """The first header of that name; empty if there is none."""
    return next((value for name, value in headers if name == b"authorization"), b"")


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
    for path, operations in text["paths"].items():
        if path not in OPEN:
            for method, operation in operations.items():
                # The empty alternative: without keys in the settings, none is needed.
                operation["security"] = [{"key": sorted(sufficient(path, method))}, {}]
                document_refusals(operation, Unauthorized, Forbidden, RateLimited)

"""``POST /predict`` without FastAPI's way to it.

FastAPI routes a request, resolves dependencies and inspects annotations anew each time: more work
than everything that a prediction needs of Python. So the innermost middleware calls the route's
function itself. Whatever is not the plain case, such as a query that does not validate, goes on to
FastAPI, which knows the same function; answers are the same on both ways, and tests hold that.
"""

from typing import cast
from urllib.parse import parse_qsl

from pydantic import ValidationError
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from gsop.api.http import predict
from gsop.api.http.problems import error_response
from gsop.api.http.schemas import PredictQuery
from gsop.api.http.service import Service
from gsop.errors import GSoPError

(_ROUTE,) = predict.router.routes
_PATH = "/predict"
_NO_QUERY = PredictQuery.model_validate({})


class DirectPredict:
    """The short way to the hottest route."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        query = _query_of(scope)
        if query is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = _ROUTE
        request = Request(scope, receive, send)
        try:
            response = await predict.predict(
                request, query, cast("Service", scope["app"].state.service)
            )
        except GSoPError as error:
            response = error_response(error)
        await response(scope, receive, send)


def _query_of(scope: Scope) -> PredictQuery | None:
    """The query of a plain ``POST /predict``; ``None`` for everything else."""
    if scope["type"] != "http" or scope["path"] != _PATH or scope["method"] != "POST":
        return None
    if not scope["query_string"]:
        return _NO_QUERY
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    members = dict(pairs)
    if len(members) < len(pairs) or "" in members.values():
        return None
    try:
        return PredictQuery.model_validate(members)
    except ValidationError:
        return None

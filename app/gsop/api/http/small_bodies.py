"""Routes whose bodies FastAPI takes apart: it would read them whole, however large and slow."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from gsop.api.http.body_limits import gather_small


class _Gathered(Request):
    """A request whose body has come."""

    text = b""

    async def body(self) -> bytes:
        """The whole of it."""
        return self.text


class SmallBodyRoute(APIRoute):
    """Reads a body of its own within :data:`gsop.api.http.body_limits.MAX_SMALL_BYTES`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, behind the reading."""
        handler = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            if self.body_field is not None:
                gathered = _Gathered(request.scope, request.receive)
                gathered.text = await gather_small(request, request.app.state.service.settings)
                request = gathered
            return await handler(request)

        return bounded

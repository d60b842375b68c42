"""What a request is before it is routed: its path below the service's prefix, and HEAD as GET."""

from urllib.parse import quote

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send


class Doorway:
    """Takes a proxy's prefix and a last slash off the path, and has HEAD answered as GET is.

    Args:
        app: what is behind it.
        root_path: the prefix under which clients see the service. A proxy may strip it, or not.
    """

    def __init__(self, app: ASGIApp, root_path: str = "") -> None:
        self._app = app
        self._root = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        location = self._enter(scope)
        if location is not None:
            location = quote(location)  # a line's end in it, as %0A, would be the header's
            if query := scope["query_string"].decode("latin-1"):
                location += f"?{query}"
            # Relative, so that it holds on whatever host, port and prefix the client sees.
            await Response(status_code=308, headers={"Location": location})(scope, receive, send)
        elif scope["method"] == "HEAD":
            await self._as_get(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _enter(self, scope: Scope) -> str | None:
        """Make the path the service's own; where to send the client if that needs another URL."""
        path: str = scope["path"]
        if self._root and path == self._root:
            return f"{self._root.rpartition('/')[2]}/"
        if self._root and path.startswith(f"{self._root}/"):
            path = path[len(self._root) :]
        if len(path) > 1 and path.endswith("/"):
            path = path.rstrip("/") or "/"
            if scope["method"] in ("GET", "HEAD"):  # or a page's own links would be wrong
                return f"../{path.rpartition('/')[2]}"
        scope["path"], scope["root_path"] = path, self._root
        return None

    async def _as_get(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The server drops the body: it still has the scope that says HEAD."""
        inner = {**scope, "method": "GET"}
        try:
            await self._app(inner, receive, send)
        finally:
            scope.update({key: value for key, value in inner.items() if key not in scope})

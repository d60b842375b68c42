"""The page at ``/`` and the one that documents the calls, from our own files.

They need nothing from anywhere else, and their policy forbids the browser to ask for it.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePath
from typing import NamedTuple

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

router = APIRouter(include_in_schema=False)

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""Nothing from elsewhere, nothing inline, and no frame around it."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-cache",
}

_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
"""Not by the machine's table, which may differ: a browser runs no script of another type."""

_SWAGGER = ("swagger-ui.css", "swagger-ui-bundle.js")
"""What the page of the calls takes of the package that carries Swagger UI."""


class Asset(NamedTuple):
    """A file as it is sent."""

    content: bytes
    media_type: str
    tag: str


@cache
def assets() -> Mapping[str, Asset]:
    """All files by their path behind ``/web/``. They are read once: nobody names another path."""
    found: dict[str, Asset] = {}
    _collect(files("gsop") / "web", "", found)
    for name in _SWAGGER:
        found[f"swagger/{name}"] = _asset(files("fastapi_swagger") / "resources" / name)
    return found


@router.get("/")
async def page(request: Request) -> Response:
    """The page to look inside."""
    return _send(request, "index.html")


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The calls, to be read and tried."""
    return _send(request, "docs.html")


@router.get("/web/{path:path}")
async def file(request: Request, path: str) -> Response:
    """A file of these pages."""
    return _send(request, path)


def _send(request: Request, path: str) -> Response:
    asset = assets().get(path)
    if asset is None:
        raise HTTPException(404)
    headers = {**HEADERS, "ETag": asset.tag}
    if request.headers.get("if-none-match") == asset.tag:
        return Response(status_code=304, headers=headers)
    return Response(asset.content, media_type=asset.media_type, headers=headers)


def _collect(folder: Traversable, prefix: str, found: dict[str, Asset]) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            _collect(entry, f"{prefix}{entry.name}/", found)
        elif not entry.name.startswith(("__", ".")):
            found[prefix + entry.name] = _asset(entry)


def _asset(entry: Traversable) -> Asset:
    content = entry.read_bytes()
    digest = hashlib.blake2b(content, digest_size=12).hexdigest()
    return Asset(content, _MEDIA_TYPES[PurePath(entry.name).suffix], f'"{digest}"')

"""What a browser may do here in the name of a page that is not ours.

A page of anybody's may have a visitor's browser send requests to a service that the page itself
could never reach, such as one on the visitor's own machine. Three doors are shut:

- **Names.** A page's own name may come to resolve to 127.0.0.1 (DNS rebinding), and then the
  browser takes the service for a part of that page. The name is in ``Host``: on loopback only
  loopback's own names are answered, and those that ``GSOP_ALLOWED_HOSTS`` adds.
- **Origins.** A page may send forms and plain requests anywhere without being asked, though it
  cannot read the answer. The browser says in ``Origin`` whose page it is: calls that do or change
  something are refused to pages of others.
- **Frames and guesses.** Headers of every answer forbid to frame it, to take it for another type
  than it says, and to load it into another origin's page.
"""

import ipaddress
import re
import socket
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from gsop.api.http.problems import document_refusals, problem_response
from gsop.errors import ForeignOrigin, Misdirected, RequestError
from gsop.settings import Settings

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""The names under which a service on loopback is answered."""

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing and cost little, whoever has them sent (RFC 9110, section 9.2.1)."""

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Of every answer."""

POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
"""Of every answer that has none of its own: what is no page has nothing to load."""

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^:\[\]/@\s]+?)\.?(?::\d*)?")


class Browsers:
    """Answers only under known names, and only pages of our own where something is done.

    Args:
        app: the next layer.
        hosts: the names, without ports; ``None``: any.
        origins: those of other pages that are let in, or ``*``.
    """

    def __init__(
        self, app: ASGIApp, *, hosts: frozenset[str] | None, origins: Sequence[str]
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            try:
                self._check(scope)
            except RequestError as error:
                await problem_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) > 1 or (not hosts and scope["http_version"] == "1.1"):
            raise RequestError("a request has one Host header (RFC 9112); send it once")
        host = hosts[0].decode("latin-1").lower() if hosts else ""
        if self._hosts is not None and hosts and name_of(host) not in self._hosts:
            raise Misdirected(
                "the service is not answered under the name in Host; ask for localhost or "
                "127.0.0.1, or have the operator add the name to GSOP_ALLOWED_HOSTS"
            )
        if scope["method"] not in SAFE:
            self._check_origin(scope, host)

    def _check_origin(self, scope: Scope, host: str) -> None:
        origin = site = ""
        for name, value in scope["headers"]:
            if name == b"origin":
                origin = value.decode("latin-1").lower()
            elif name == b"sec-fetch-site":
                site = value.decode("latin-1")
        authority = _authority_of(origin)
        is_same = bool(authority) and authority == _plain(host)
        is_ours = not origin or site == "same-origin" or is_same
        if not (is_ours or origin in self._origins or "*" in self._origins):
            raise ForeignOrigin(
                "pages of this origin may not call the service; the operator can name it in "
                "GSOP_CORS_ORIGINS"
            )


def answered_hosts(settings: Settings) -> frozenset[str] | None:
    """The names under which a service of these settings is answered; ``None``: any."""
    named = frozenset(host.lower().rstrip(".") for host in settings.allowed_hosts)
    if "*" in named:
        return None
    if _is_loopback(settings.host):
        own = f"[{settings.host}]" if ":" in settings.host else settings.host.lower()
        return LOOPBACK | named | {own}
    return named or None


def protect(headers: list[tuple[bytes, bytes]]) -> None:
    """Add what browsers must be told to an answer's headers."""
    if not any(name.lower() == POLICY[0] for name, _ in headers):
        headers.append(POLICY)
    headers.extend(HEADERS)


def document_browsers(text: dict[str, Any]) -> None:
    """Have the OpenAPI text say what calls answer under other names and to pages of others."""
    for operations in text["paths"].values():
        for method, operation in operations.items():
            is_safe = method.upper() in SAFE
            document_refusals(operation, Misdirected, *(() if is_safe else (ForeignOrigin,)))


@lru_cache(maxsize=64)
def name_of(host: str) -> str | None:
    """The name in a ``Host`` header of small letters; ``None`` if there is none."""
    match = _HOST.fullmatch(host)
    return match["name"] if match else None


@lru_cache(maxsize=64)
def _authority_of(origin: str) -> str:
    scheme, _, authority = origin.partition("://")
    return _plain(authority) if scheme in ("http", "https") else ""


def _plain(authority: str) -> str:
    """Without the port that goes without saying; a proxy may have ended TLS."""
    return authority.removesuffix(":80").removesuffix(":443")


def _is_loopback(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False  # whoever listens there says what is wrong
    address = str(found[0][4][0]).partition("%")[0]
    return ipaddress.ip_address(address).is_loopback

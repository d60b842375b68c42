"""uvicorn's HTTP/1.1 protocol, with bounds on what a connection may hold before a route sees it.

uvicorn has no limit on how many connections there are, on how long or how large a request's head
may be, on how many requests one connection may pipeline, on how long the rest of a refused body may
trickle in, nor on how long a client may leave its answer unread.
"""

import asyncio
import json
from collections.abc import Callable

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gsop.errors import RequestError

MAX_HEAD_BYTES = 64 * 1024
"""Of a request's line and headers, beyond the first read; others' limits are 8 to 64 kB."""

MAX_TARGET_BYTES = 8 * 1024
"""Of a request's path and query: what RFC 9112, section 3, asks for at least. More would only be
taken apart, at a price."""

MAX_PIPELINED = 32
"""Requests of one connection that wait for their turn; each holds some kilobytes."""

WATCH = "gsop.watch"
"""In a request's ASGI scope: :meth:`GuardedProtocol.watch` of its connection."""

UNREAD_ROUNDS = 3
"""So many times :attr:`GuardedProtocol.head_seconds` may an answer wait for its client."""

READ_FIRST_SECONDS = 0.1
"""What came while the front had no processor is read before it is said that time is up."""

LAST_CALL_SECONDS = 0.5
"""When the service stops, a request that is on its way on an idle connection is still answered."""


class Lobby:
    """The connections that wait for a request, the one that waits longest first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.waiting: dict[GuardedProtocol, None] = {}  # ordered, and cheap to leave

    def make_room(self, newcomer: "GuardedProtocol", connections: int) -> None:
        """Close whoever waits longest if there are too many; the newcomer if nobody waits."""
        if connections > self.capacity:
            next(iter(self.waiting), newcomer).abort()


class GuardedProtocol(HttpToolsProtocol):
    """Closes connections that keep the server waiting, and refuses heads without end.

    Attributes:
        head_seconds: how long a head, or the unwanted rest of a body, may take to arrive.
        lobby: shared by all connections of the process.
    """

    head_seconds: float
    lobby: Lobby

    _timer: asyncio.TimerHandle
    _waiting_since: float | None = None
    _in_head = False
    _head_bytes = 0
    _unread_rounds = 0
    _on_leave: Callable[[], None] | None = None
    _is_leaving = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._waiting_since = self.loop.time()
        self._timer = self.loop.call_later(self.head_seconds, self._look)
        self.lobby.make_room(self, len(self.connections))
        self.lobby.waiting[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        self._timer.cancel()
        self.lobby.waiting.pop(self, None)
        super().connection_lost(exc)
        if self._on_leave is not None:
            self._on_leave()

    def watch(self, on_leave: Callable[[], None] | None) -> None:
        """Have this called if the client leaves before the request's end; ``None``: nothing."""
        self._on_leave = on_leave
        if on_leave is not None:
            self.flow.resume_reading()  # or the end would not be seen behind a large body
            if self.cycle.disconnected:
                on_leave()

    def abort(self) -> None:
        """Close at once, without a wait for what is unsent."""
        self.lobby.waiting.pop(self, None)
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse, and refuse a head that goes on and on."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response("the request's head is too large; send fewer headers")
                return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay_with_http1(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            # Not worth a line in the log: everybody can cause as many as they like.
            self.send_400_response("this is no HTTP/1.1; see the service's /docs")

    def _stay_with_http1(self, rest: bytes) -> None:
        """Take a request as if it had not asked for another protocol (RFC 9110, section 7.8).

        The parser takes such a request to end with its head, and would read its body as the next
        request: one that a proxy has never seen. So the head is parsed again, without the wish.
        """
        if self.parser.get_method() == b"CONNECT":
            self.send_400_response("this is no proxy")
            return
        version = self.parser.get_http_version().encode()
        head = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        head += [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn
        self._in_head = False  # what comes now has been counted
        self.data_received(b"\r\n".join([*head, b"", b""]) + rest)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, with a problem as from every route, and close."""
        problem = {
            "type": "about:blank",
            "title": RequestError.title,
            "status": RequestError.status,
            "detail": msg,
            "code": RequestError.code,
        }
        body = json.dumps(problem).encode()
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
        )
        self.transport.close()

    def on_message_begin(self) -> None:
        """Begin to wait for a head's end."""
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many pipelined requests")  # uvicorn answers 400 and closes
        self._in_head, self._head_bytes = True, 0
        self._waiting_since = self.loop.time()
        super().on_message_begin()
        self.scope[WATCH] = self.watch  # type: ignore[literal-required]  # ASGI allows others

    def on_url(self, url: bytes) -> None:
        """Refuse a path or query without end."""
        if len(self.url) + len(url) > MAX_TARGET_BYTES:
            raise ValueError("the path and query are too long")  # as above
        super().on_url(url)

    def on_headers_complete(self) -> None:
        """Wait no more: the body and the answer have their own deadlines."""
        if self.parser.should_upgrade():
            return  # to come again
        self._in_head, self._waiting_since = False, None
        self.lobby.waiting.pop(self, None)
        super().on_headers_complete()
        self.cycle.transport = _Lingering(self)  # type: ignore[assignment]  # all that it calls

    def on_message_complete(self) -> None:
        """After a refused body's end, wait for the next request, as after any other."""
        if self.parser.should_upgrade():
            return
        if self.cycle.response_complete:
            if self._is_leaving:
                self.transport.close()
                return
            self._waiting_since = None
            self.lobby.waiting[self] = None
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        super().on_message_complete()

    def leave(self) -> None:
        """Close after an answer; with a body on its way, once that has come or time is up.

        A connection that is closed with bytes unread is reset, and the reset takes the answer with
        it (RFC 9112, section 9.6): a client that sends before it reads would never know.
        """
        if not self.cycle.more_body:
            self.transport.close()
            return
        self._is_leaving = True
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def on_response_complete(self) -> None:
        """If the request has not come whole, wait for its rest a while."""
        super().on_response_complete()
        if self.cycle.more_body:
            self._waiting_since = self.loop.time()
        if not self.pipeline and self.cycle.response_complete:
            self.lobby.waiting[self] = None

    def shutdown(self) -> None:
        """Close as soon as nothing is going on, but not on a request that has just been sent."""
        if self._is_idle:
            self.loop.call_later(LAST_CALL_SECONDS, self._close_if_idle)
        else:
            super().shutdown()

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _close_if_idle(self) -> None:
        if self._is_idle:
            self.transport.close()
        else:
            super().shutdown()

    @property
    def _keeps_waiting(self) -> bool:
        since = self._waiting_since
        waited = 0.0 if since is None else self.loop.time() - since
        return self._is_idle and waited >= self.head_seconds

    def _close_if_waiting(self) -> None:
        if self._keeps_waiting and not self.transport.is_closing():
            self.transport.close()

    def _look(self) -> None:
        """Once in :attr:`head_seconds`: has this connection kept us waiting?"""
        if self._keeps_waiting:
            self.loop.call_later(READ_FIRST_SECONDS, self._close_if_waiting)
        # Closing waits for the client to read what is unsent, which it may never do.
        unread = self.transport.get_write_buffer_size() > 0
        self._unread_rounds = self._unread_rounds + 1 if unread else 0
        if self._unread_rounds > UNREAD_ROUNDS:
            self.transport.abort()
            return
        self._timer = self.loop.call_later(self.head_seconds, self._look)


class _Lingering:
    """The transport as a request sees it: closing waits for what the client has not sent yet."""

    def __init__(self, protocol: GuardedProtocol) -> None:
        self._protocol = protocol
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing
        self.close = protocol.leave


def guarded(*, head_seconds: float, max_connections: int) -> type[GuardedProtocol]:
    """The protocol with its bounds, as uvicorn wants it: a class."""
    members = {"head_seconds": head_seconds, "lobby": Lobby(max_connections)}
    return type("BoundedProtocol", (GuardedProtocol,), members)

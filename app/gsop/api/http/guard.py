"""uvicorn's HTTP/1.1 protocol, with bounds on what a connection may hold before a route sees it.

uvicorn has no limit on how many connections there are, on how long or how large a request's head
may be, on how many requests one connection may pipeline, on what comes beside the bytes of a
chunked body, on how long the rest of a refused body may trickle in, nor on how long a client may
leave its answer unread.

Another protocol over HTTP/1.1 has all of this by itself: its routes run behind the same guard. What
bounds a body is :mod:`gsop.api.http.body_limits`.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gsop.api.http.body_limits import ANNOUNCED, LEAST_RATE, Announced
from gsop.api.http.lobby import BUSY, SLOW, WAITING, Lobby
from gsop.errors import RequestError
from gsop.serving.clients import client_of

MAX_HEAD_BYTES = 64 * 1024
"""Of a request's line and headers, beyond the first read; others' limits are 8 to 64 kB."""

MAX_TARGET_BYTES = 8 * 1024
"""Of a request's path and query: what RFC 9112, section 3, asks for at least. More would only be
taken apart, at a price."""

MAX_PIPELINED = 32
"""Requests of one connection that wait for their turn; each holds some kilobytes."""

MAX_FIELDS = 100
"""Lines of a head; each costs some hundred bytes, however short it is."""

MAX_BESIDE_BYTES = 64 * 1024
"""Of a chunked body, between two pieces of it or after the last: lines of chunks, trailers."""

FREE_CHUNKS = 4096
"""So many chunks a body may have, whatever their size."""

LEAST_CHUNK_BYTES = 32
"""Of a body's further chunks, on average: each costs as much as some kilobytes, however small it
is, and four connections that sent single bytes made others wait for seconds."""

MAX_SIZE_LINE = 1024
"""Bytes in which the line of a chunk's size is looked for."""

WATCH = "gsop.watch"
"""In a request's ASGI scope: :meth:`GuardedProtocol.watch` of its connection."""

UNREAD_ROUNDS = 3
"""So many times :attr:`GuardedProtocol.head_seconds` may an answer wait for its client."""

READ_FIRST_SECONDS = 0.1
"""What came while the front had no processor is read before it is said that time is up."""

LAST_CALL_SECONDS = 0.5
"""When the service stops, a request that is on its way on an idle connection is still answered."""


class Refused(ValueError):
    """A parser's callback refuses what it is told; the message is for the client."""


class GuardedProtocol(HttpToolsProtocol):
    """Closes connections that keep the server waiting, and refuses heads without end.

    Attributes:
        head_seconds: how long a head, or the unwanted rest of a body, may take to arrive.
        lobby: shared by all connections of the process.
    """

    head_seconds: float
    lobby: Lobby

    _timer: asyncio.TimerHandle
    client_name: str
    _announced: Announced
    _waiting_since: float | None = None
    _in_head = False
    _in_body = False
    _is_chunked = False
    _head_bytes = 0
    _beside_bytes = 0
    _body_since = 0.0
    _chunk_line = 0  # bytes of the body since the last line of a chunk; -1: that is over
    _tail = b""
    _chunks = 0
    _pieces: list[bytes]
    _body_bytes = 0
    _idle_since = 0.0
    _unread_rounds = 0
    _on_leave: Callable[[], None] | None = None
    _is_leaving = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self.client_name = client_of(self.client[0]) if self.client else ""
        self._waiting_since = self._idle_since = self.loop.time()
        self._pieces = []
        self._timer = self.loop.call_later(self.head_seconds, self._look)
        self.lobby.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        self._timer.cancel()
        self.lobby.leave(self)
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
        self.lobby.leave(self)
        self.transport.abort()

    @property
    def stage(self) -> int:
        """See :class:`~gsop.api.http.lobby.Guest`."""
        if self._is_idle:
            return WAITING
        is_unread = self.transport.get_write_buffer_size() > 0
        return SLOW if self._in_body or is_unread else BUSY

    @property
    def stage_since(self) -> float:
        """See :class:`~gsop.api.http.lobby.Guest`."""
        return self._idle_since if self._is_idle else self._body_since

    def data_received(self, data: bytes) -> None:
        """Parse, and refuse a head that goes on and on."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response("the request's head is too large; send fewer headers")
                return
        elif self._in_body:
            self._beside_bytes += len(data)
            if self._beside_bytes > MAX_BESIDE_BYTES + len(data):
                self.send_400_response("too much comes beside the body's bytes")
                return
        self._unset_keepalive_if_required()
        self._chunk_line = -1
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay_with_http1(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            # Not worth a line in the log: everybody can cause as many as they like.
            reason = error.__context__
            told = f"{reason}" if isinstance(reason, Refused) else "this is no HTTP/1.1"
            self.send_400_response(f"{told}; see the service's /docs")
        else:
            self._hand_on()
            if self._in_body and self._is_chunked:
                self._look_at_chunk(data)

    def _look_at_chunk(self, data: bytes) -> None:
        """Tell the size of a chunk that has begun; the parser keeps it to itself."""
        if self._chunk_line >= 0:
            end = len(data) - self._chunk_line
            lines = (self._tail + data[max(0, end - MAX_SIZE_LINE) : end]).split(b"\r\n")
            size = lines[-2].partition(b";")[0] if len(lines) > 1 else b""
            with contextlib.suppress(ValueError):
                before = self._body_bytes - self._chunk_line
                self._announced.bytes = before + int(size, 16)
                self.cycle.message_event.set()  # whoever reads the body looks at it
            self._tail = b""
        else:
            self._tail = (self._tail + data[-MAX_SIZE_LINE:])[-MAX_SIZE_LINE:]

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
        if self.cycle is not None and self.cycle.response_started and not self._is_idle:
            self.transport.close()  # in the middle of an answer this would be a part of it
            return
        body = json.dumps(problem).encode()
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
        )
        self.transport.close()

    def on_message_begin(self) -> None:
        """Begin to wait for a head's end."""
        if len(self.pipeline) >= MAX_PIPELINED:
            raise Refused("too many pipelined requests")
        self._in_head, self._head_bytes = True, 0
        self._waiting_since = self.loop.time()
        super().on_message_begin()
        self._announced = Announced()
        self.scope[WATCH] = self.watch  # type: ignore[literal-required]  # ASGI allows others
        self.scope[ANNOUNCED] = self._announced  # type: ignore[literal-required]  # as above

    def on_url(self, url: bytes) -> None:
        """Refuse a path or query without end."""
        if len(self.url) + len(url) > MAX_TARGET_BYTES:
            raise Refused("the path and query are too long")
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a line of the head, one of not too many; drop a trailer.

        What may stand in a head, such as a key, must not come after the request has been judged
        (RFC 9110, section 6.5.1).
        """
        if not self._in_head:
            return
        if len(self.headers) == MAX_FIELDS:
            raise Refused("too many headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Wait no more: the body and the answer have their own deadlines."""
        codings = [value for name, value in self.headers if name == b"transfer-encoding"]
        is_old = self.parser.get_http_version() != "1.1"
        if codings and (is_old or [c.lower() for c in codings] != [b"chunked"]):
            raise Refused("of the codings of a transfer, HTTP/1.1's chunked alone is read")
        if self.parser.should_upgrade():
            return  # to come again
        self._in_head, self._waiting_since = False, None
        self._in_body, self._is_chunked = True, bool(codings)
        self._body_since = self.loop.time()
        self._beside_bytes = self._body_bytes = self._chunks = 0
        self._tail = b""
        super().on_headers_complete()
        self.cycle.transport = _Lingering(self)  # type: ignore[assignment]  # all that it calls

    def on_chunk_header(self) -> None:
        """A chunk begins."""
        self._chunk_line = 0
        self._chunks += 1
        if self._chunks > FREE_CHUNKS + self._body_bytes / LEAST_CHUNK_BYTES:
            raise Refused("the body comes in too small chunks")

    def on_chunk_complete(self) -> None:
        """A chunk has come whole: its size tells nothing more."""
        self._chunk_line = -1

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._beside_bytes = 0
        self._body_bytes += len(body)
        self._body_since += len(body) / LEAST_RATE
        if self._chunk_line >= 0:
            self._chunk_line += len(body)
        self._pieces.append(body)

    def _hand_on(self) -> None:
        """Give the pieces that came together to the request: one by one, each copies the others."""
        if self._pieces:
            super().on_body(b"".join(self._pieces))
            self._pieces.clear()

    def on_message_complete(self) -> None:
        """After a refused body's end, wait for the next request, as after any other."""
        if self.parser.should_upgrade():
            return
        self._in_body = False
        self._hand_on()
        if not self.parser.should_keep_alive():
            # A trailer may say so, too. The parser then reads nothing any more.
            self.cycle.keep_alive = False
        if self.cycle.response_complete:
            if self._is_leaving or not self.cycle.keep_alive:
                self.transport.close()
                return
            self._waiting_since = None
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
        self._idle_since = self.loop.time()

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

"""uvicorn's HTTP/1.1 protocol, with bounds on what a connection may hold before a route sees it.

uvicorn has no limit on how long or how large the head of a request may be, nor on how many requests
one connection may pipeline, nor on how long the rest of a refused body may trickle in.
"""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
"""How long a head, or the unwanted rest of a body, may take; a slow network needs one or two."""

MAX_HEAD_BYTES = 64 * 1024
"""Of a request's line and headers, beyond the first read; others' limits are 8 to 64 kB."""

MAX_PIPELINED = 32
"""Requests of one connection that wait for their turn; each holds some kilobytes."""


class GuardedProtocol(HttpToolsProtocol):
    """Closes connections that keep the server waiting, and refuses heads without end."""

    _timer: asyncio.TimerHandle
    _waiting_since: float | None = None
    _in_head = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._waiting_since = self.loop.time()
        self._timer = self.loop.call_later(HEAD_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and refuse a head that goes on and on."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response("Request head too large.")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Begin to wait for a head's end."""
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many pipelined requests")  # uvicorn answers 400 and closes
        self._in_head, self._head_bytes = True, 0
        self._waiting_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Wait no more: the body and the answer have their own deadlines."""
        self._in_head, self._waiting_since = False, None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """After a refused body's end, wait for the next request."""
        if self.cycle.response_complete:
            self._waiting_since = self.loop.time()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """If the request has not come whole, wait for its rest a while."""
        super().on_response_complete()
        if self.cycle.more_body:
            self._waiting_since = self.loop.time()

    def _look(self) -> None:
        waited = self.loop.time() - (self._waiting_since or self.loop.time())
        idle = self.cycle is None or self.cycle.response_complete
        if idle and waited >= HEAD_SECONDS and not self.transport.is_closing():
            self.transport.close()
            return
        self._timer = self.loop.call_later(HEAD_SECONDS, self._look)

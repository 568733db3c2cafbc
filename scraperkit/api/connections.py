"""Limits of the pricer's connections: their number, and how long a request may take to arrive."""

from __future__ import annotations

import asyncio
import resource
from typing import Any, NamedTuple

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from scraperkit.config import Settings

STALLED_SECONDS = 60.0  # how long a client may read nothing of a response


class Limits(NamedTuple):
    """Limits of connections."""

    most: int  # connections
    seconds: float  # for a request to arrive whole

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return the limits of the settings; at most half of the files that this process may open are connections."""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        most = settings.api_connections
        return cls(most if files == resource.RLIM_INFINITY else min(most, files // 2), settings.api_receive_timeout)


def protocol_of(limits: Limits) -> type[HttpToolsProtocol]:
    """Return a class of connections with these limits."""

    class LimitedConnection(_LimitedConnection):
        pass

    LimitedConnection.limits = limits
    return LimitedConnection


class _LimitedConnection(HttpToolsProtocol):
    """A connection that ends if a request does not arrive or a response is not read in time, or to make room.

    uvicorn limits idle connections only, and returns 503 to all while too many are open. Half a request, or a response
    that is not read, would keep a connection open for ever, and hundreds of them would lock out every client.
    """

    limits: Limits
    _deadline: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _waits_since = 0.0
    _answered: Any = None

    def connection_made(self, transport: Any) -> None:
        """Make room for this connection, or refuse it if all others are being answered."""
        super().connection_made(transport)
        self._waits_since = self.loop.time()
        if len(self.connections) > self.limits.most:
            others = [one for one in self.connections if isinstance(one, _LimitedConnection) and one.may_end]
            # The one that has waited longest; this one, if there is no other.
            min(others, key=lambda one: one._waits_since).give_up(b"503 Service Unavailable")
        if not transport.is_closing():
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self._forget_deadline()
        self._forget_stall()
        if self._answered is not None:
            # uvicorn notifies the newest request only; this one would write to a closed connection.
            self._answered.disconnected = True
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the client to read, but not for ever."""
        super().pause_writing()
        self._waits_since = self.loop.time()
        self._await_reader()

    def resume_writing(self) -> None:
        """Continue: the client reads again."""
        self._forget_stall()
        super().resume_writing()
        if self.cycle is None or self.cycle.response_complete:
            self._await_reader()

    def data_received(self, data: bytes) -> None:
        """Start the deadline of a request, unless one is being received or answered."""
        if self._deadline is None and self.asks_nothing:
            self._await_request()
        super().data_received(data)

    def on_message_complete(self) -> None:
        """Drop the deadline: the request is complete."""
        self._forget_deadline()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, which uvicorn's own limit for idle connections covers until it begins."""
        self._forget_deadline()
        self._waits_since = self.loop.time()
        super().on_response_complete()
        if self._stalled is None and self._holds_unread():
            self._await_reader()

    @property
    def asks_nothing(self) -> bool:
        """Whether it is idle, or its request is still arriving."""
        return self._deadline is not None or self.cycle is None or self.cycle.response_complete

    @property
    def may_end(self) -> bool:
        """Whether it may be ended to make room: it is idle or still sending, or its client has stopped reading."""
        return self.asks_nothing or self.flow.write_paused

    def give_up(self, status: bytes) -> None:
        """End the connection, with a status if no response has begun."""
        if self.transport.is_closing() or self._holds_unread():
            # Closing would wait for a client that may never read.
            self.transport.abort()
            self.connections.discard(self)
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()
        if self._holds_unread():
            self.transport.abort()
        # Now, rather than later in the loop: many may be waiting to connect.
        self.connections.discard(self)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def _await_request(self) -> None:
        self._deadline = self.loop.call_later(self.limits.seconds, self.give_up, b"408 Request Timeout")

    def _holds_unread(self) -> bool:
        try:
            return bool(self.transport.get_write_buffer_size())
        except RuntimeError:  # how uvloop reports a closed connection
            return False

    def _await_reader(self) -> None:
        self._forget_stall()
        self._stalled = self.loop.call_later(STALLED_SECONDS, self._end_if_unread)

    def _end_if_unread(self) -> None:
        self._stalled = None
        if self._holds_unread():
            self.transport.abort()

    def _forget_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

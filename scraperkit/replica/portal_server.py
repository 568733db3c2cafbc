"""A portal, or anything that responds like one, on a socket: it limits its rate, and can close its port."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Generic, Protocol, TypeVar

from scraperkit.replica.portal import PortalResponse

_DRIPS_PER_SECOND = 20
_log = logging.getLogger(__name__)


class PortalServer(Protocol):
    """The parts of a server that the portal uses."""

    server_name: str
    server_port: int

    def serve_forever(self, poll_interval: float = ...) -> None:
        """Serve until shutdown."""

    def shutdown(self) -> None:
        """Take no more connections."""

    def hang_up(self) -> None:
        """Close every connection."""

    def server_close(self) -> None:
        """Close the port."""


class Responding(Protocol):
    """Content that a server can serve."""

    @property
    def latency(self) -> float:
        """Seconds before each response."""

    @property
    def bytes_per_second(self) -> float:
        """Rate at which bodies are sent."""

    def respond(self, target: str, headers: Mapping[str, str] | None = None) -> PortalResponse:
        """Return the response to a request."""


Content = TypeVar("Content", bound=Responding)


class PortalSite(Generic[Content]):
    """A portal with a server that can stop and start again; its files are loaded on first use.

    Parameters
    ----------
    make : callable
        Makes the portal.
    listen : callable
        Opens a port (0: a free one) with a request handler, and returns the server.
    port : int
        The port; later starts use the same one.

    Attributes
    ----------
    address : str
        ``http://host:port``.
    """

    def __init__(
        self, make: Callable[[], Content], listen: Callable[[int, Callable[..., Any]], PortalServer], port: int
    ) -> None:
        self._make = make
        self._listen = listen
        self._lock = threading.Lock()
        self._switch = threading.Lock()
        self._stopping = threading.Event()
        self._portal: Content | None = None
        self._server: PortalServer | None = None
        self._thread: threading.Thread | None = None
        server = self._open(port)
        self._port = server.server_port
        self.address = f"http://{server.server_name}:{server.server_port}"

    @property
    def portal(self) -> Content:
        """The portal's files and faults."""
        with self._lock:
            if self._portal is None:
                self._portal = self._make()
            return self._portal

    @property
    def up(self) -> bool:
        """Whether the port is open; otherwise, connections are refused."""
        return self._server is not None

    def start(self) -> None:
        """Open the port, if it is closed."""
        with self._switch:
            if self._server is None:
                self._open(self._port)

    def stop(self) -> None:
        """Close the port and all connections, and end all threads; may be called twice."""
        with self._switch:
            if self._server is None or self._thread is None:
                return
            self._stopping.set()
            self._server.shutdown()
            self._server.hang_up()
            self._server.server_close()
            self._thread.join()
            self._server = self._thread = None

    def _open(self, port: int) -> PortalServer:
        self._stopping = threading.Event()
        self._server = server = self._listen(port, partial(_Handler, site=self, stopping=self._stopping))
        self._thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="portal", daemon=True)
        self._thread.start()
        return server


class _Handler(BaseHTTPRequestHandler):
    """Serves the requests of one connection; `stopping` ends every wait."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60

    def __init__(self, *args: Any, site: PortalSite[Any], stopping: threading.Event) -> None:
        self._portal: Responding = site.portal
        self._stopping = stopping
        super().__init__(*args)

    def do_GET(self) -> None:
        if self._stopping.wait(self._portal.latency):
            self.close_connection = True
            return
        self._send(self._portal.respond(self.path, {name.lower(): value for name, value in self.headers.items()}))

    do_HEAD = do_GET

    def _send(self, response: PortalResponse) -> None:
        headers = {"Server": "nginx", "Date": formatdate(usegmt=True), **response.headers}
        if response.status != HTTPStatus.NOT_MODIFIED:
            headers["Content-Length"] = str(len(response.body))
        headers["Connection"] = "close" if self.close_connection or response.cut else "keep-alive"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.wfile.write(
            f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\n{lines}\r\n".encode("ascii")
        )
        if self.command != "HEAD":
            self._drip(response.body[: len(response.body) - response.cut])
            self.close_connection = self.close_connection or response.cut > 0

    def _drip(self, body: bytes) -> None:
        """Send a body at the portal's current rate."""
        sent = 0
        while sent < len(body):
            rate = self._portal.bytes_per_second
            if math.isinf(rate):
                self.wfile.write(body[sent:])
                return
            size = max(1, int(rate / _DRIPS_PER_SECOND))
            self.wfile.write(body[sent : sent + size])
            sent += size
            if self._stopping.wait(size / rate):
                self.close_connection = True
                return

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)

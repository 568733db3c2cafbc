"""Serves the pricer with uvicorn: one socket, one line when it listens, a clean stop."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from scraperkit.api.connections import Limits, protocol_of
from scraperkit.api.guard import is_loopback
from scraperkit.errors import ConfigError, ScraperKitError

# Connections that the kernel queues, and that the pricer accepts at once: there is room for them beyond its limit.
BACKLOG = 128
SHUTDOWN_SECONDS = 5  # for running responses when the server stops


class Server(uvicorn.Server):
    """A uvicorn server that notifies its app when it begins to stop, so that endless streams end."""

    def __init__(self, app: FastAPI, ready: Callable[[], None] = lambda: None) -> None:
        config = uvicorn.Config(
            app,
            http=protocol_of(Limits.of(app.state.backend.settings)),
            backlog=BACKLOG,
            log_config=None,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            lifespan="on",
        )
        super().__init__(config)
        self._app = app
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and call `ready`."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """First end what uvicorn would wait for."""
        self._app.state.running.stop()
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """Return a bound socket.

    Raises
    ------
    ScraperKitError
        If the name is unknown, or the port is taken. Not a ConfigError: the port may be free in a moment.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise ScraperKitError(
            f"cannot listen on {host}:{port} ({error.strerror or error}); choose another --host or --port"
        ) from None


def url_of(bound: socket.socket) -> str:
    """Return the URL of a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: FastAPI, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then finish running requests, and return.

    Parameters
    ----------
    ready : callable
        Called with the URL once the server listens.

    Raises
    ------
    ConfigError
        If `host` is not a loopback address and there are no API keys, or Redis's address is invalid.
    ScraperKitError
        If it cannot listen on the address.
    """
    if not app.state.keyring.configured and not is_loopback(host):
        raise ConfigError(
            f"--host: without API keys only this machine may be served, not {host}; "
            "set SCRAPERKIT_API_KEYS_FILE or SCRAPERKIT_API_KEYS, or omit --host"
        )
    app.state.backend.open()
    bound = listen(host, port)
    url = url_of(bound)
    # uvicorn raises the signal again once it has stopped; here that is a clean stop, not a failure.
    previous = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        Server(app, lambda: ready(url)).run([bound])
    finally:
        bound.close()
        for number, handler in previous.items():
            signal.signal(number, handler)

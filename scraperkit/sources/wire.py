"""One HTTP exchange over a shared connection, with a deadline that holds even if a site drips bytes."""

from __future__ import annotations

import contextlib
import http.client
import io
import ipaddress
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_auth_from_url, get_environ_proxies, select_proxy
from urllib3 import HTTPConnectionPool, HTTPHeaderDict, HTTPSConnectionPool, PoolManager, ProxyManager, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util import make_headers

from scraperkit.errors import ConfigError

_CHUNK = 65_536
# Beyond this number, threads open connections that are not kept.
_CONNECTIONS_KEPT = 256


class EndedHereError(Exception):
    """The exchange was ended from this side, maybe by another thread."""


class TooLateError(Exception):
    """The exchange has used up its time."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response: at most one chunk more than the bytes wanted, and no redirect followed."""

    url: str
    status: int
    headers: HTTPHeaderDict
    content: bytes


@dataclass(slots=True, eq=False)
class Exchange:
    """A request in progress, which any thread may end.

    Attributes
    ----------
    seconds : float
        The time left; each request uses part of it.
    thread : int
        The thread that waits for it.
    ended : threading.Event
        Set by :meth:`end`.
    """

    seconds: float
    thread: int = field(default_factory=threading.get_ident)
    ended: threading.Event = field(default_factory=threading.Event)
    _until: float = math.inf
    _socket: socket.socket | None = None

    def end(self) -> None:
        """End it now: a thread that waits for the next byte stops waiting at once."""
        self.ended.set()
        if (sock := self._socket) is not None:
            with contextlib.suppress(OSError):
                # SSLSocket.shutdown would drop the TLS session that the other thread is reading.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """Track the time and the socket of this thread's requests."""
        began = time.monotonic()
        self._until = began + self.seconds
        token = _current.set(self)
        try:
            yield
        except (OSError, ValueError, HTTPError) as error:
            if self.ended.is_set():
                raise EndedHereError from None
            if time.monotonic() >= self._until:
                raise TooLateError from error
            raise
        finally:
            _current.reset(token)
            self._socket = None
            self.seconds = self._until - time.monotonic()

    def hold(self, sock: socket.socket) -> None:
        """Record the socket that the response comes from."""
        self._socket = sock

    def allow_a_read(self, sock: socket.socket, longest: float | None) -> None:
        """Limit a socket's wait for its next bytes to the deadline."""
        # Checked after hold(): end() may have run before it knew the socket.
        if self.ended.is_set():
            raise ConnectionAbortedError
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        sock.settimeout(min(left, math.inf if longest is None else longest))


_current: ContextVar[Exchange] = ContextVar("exchange")


class _Reader(io.RawIOBase):
    """The bytes of a socket, each read within the deadline of the exchange."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock
        self._longest = sock.gettimeout()
        self._exchange = _current.get()
        self._exchange.hold(sock)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._exchange.allow_a_read(self._sock, self._longest)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_Reader(self.fp.detach(), sock))


class _Connection(HTTPConnection):
    response_class = _Response


class _WireTlsConnection(HTTPSConnection):
    response_class = _Response


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _WireTlsConnection


class Wire:
    """Connections to one site, shared by all threads; direct, or through the proxy that the environment names.

    It uses no passwords from a netrc file, no cookies, no retries and no redirects: the caller decides.

    Parameters
    ----------
    url : str
        An address of the site.
    connect_timeout, read_timeout : float
        Seconds to wait for a connection, and for the next bytes.

    Raises
    ------
    ConfigError
        If the proxy's address is invalid.
    """

    def __init__(self, url: str, *, connect_timeout: float, read_timeout: float) -> None:
        self._timeouts = (connect_timeout, read_timeout)
        self.proxy, self._manager = _manager(url)
        self._manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def send(
        self,
        exchange: Exchange,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: str | None,
        most: int,
        write: Callable[[bytes], object] | None = None,
    ) -> Reply:
        """Send one request and read the response; stop reading once there are more than `most` bytes.

        With `write`, a response with status 200 is passed on to it piece by piece, as it was sent, and not kept.

        Raises
        ------
        EndedHereError
            If the exchange was ended from this side.
        TooLateError
            If the response is incomplete when the exchange runs out of time.
        OSError, ValueError, urllib3.exceptions.HTTPError
            Unchanged.
        """
        with exchange.under_way():
            connect, read = (max(1e-3, min(limit, exchange.seconds)) for limit in self._timeouts)
            response = self._manager.urlopen(
                method,
                url,
                body=body,
                headers=headers,
                redirect=False,
                retries=False,
                timeout=Timeout(connect=connect, read=read),
                preload_content=False,
            )
            content = bytearray()
            try:
                is_passed_on = write is not None and response.status == HTTPStatus.OK
                for chunk in response.stream(_CHUNK, decode_content=not is_passed_on):
                    if write is not None and is_passed_on:
                        write(chunk)
                        continue
                    content += chunk
                    if len(content) > most:
                        break
                else:
                    response.release_conn()
            finally:
                response.close()  # and the connection with it, unless that was released
            if exchange.ended.is_set():
                raise EndedHereError
            return Reply(url, response.status, response.headers, bytes(content))

    def close(self) -> None:
        """Close the idle connections; those in use close when their exchanges end."""
        pools = self._manager.pools
        for key in pools.keys():  # noqa: SIM118 - iterating over the container itself is not thread-safe
            if (pool := pools.get(key)) is not None:
                pool.close()  # clear() leaves the sockets to the garbage collector
        self._manager.clear()


def leads_here(host: str) -> bool:
    """Return whether a host name or address is this machine's own.

    Examples
    --------
    >>> leads_here("127.0.0.1"), leads_here("localhost"), leads_here("::1"), leads_here("cvm.gov.br")
    (True, True, True, False)
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.lower().removesuffix(".")
        return name == "localhost" or name.endswith(".localhost")
    inner = getattr(address, "ipv4_mapped", None) or address
    # A connection to 0.0.0.0 or :: goes to this machine.
    return bool(inner.is_loopback or inner.is_unspecified)


def _manager(url: str) -> tuple[str, PoolManager]:
    """Return the proxy without credentials, empty if there is none, and the connections."""
    certificates = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or DEFAULT_CA_BUNDLE_PATH
    options: dict[str, Any] = {"maxsize": _CONNECTIONS_KEPT, "cert_reqs": "CERT_REQUIRED"}
    options["ca_cert_dir" if Path(certificates).is_dir() else "ca_certs"] = certificates
    proxy = _proxy_for(url)
    if not proxy:
        return "", PoolManager(**options)
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if not parts.hostname or parts.port == 0:
            raise ValueError
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        name, password = get_auth_from_url(parts.geturl())
        headers = make_headers(proxy_basic_auth=f"{name}:{password}") if name or password else {}
        return shown, ProxyManager(shown, proxy_headers=headers, **options)
    except (HTTPError, ValueError):
        raise ConfigError(
            f"the environment names a proxy for {urlsplit(url).hostname} that is not an http:// or https:// address: "
            "correct HTTP_PROXY, HTTPS_PROXY or ALL_PROXY, or list the host in NO_PROXY"
        ) from None


def _proxy_for(url: str) -> str:
    if leads_here(urlsplit(url).hostname or ""):
        return ""
    return select_proxy(url, get_environ_proxies(url)) or ""

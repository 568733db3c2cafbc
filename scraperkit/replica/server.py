"""The replica as an HTTP server in a background thread, with faults on demand."""

from __future__ import annotations

import contextlib
import logging
import math
import random
import re
import secrets
import signal
import socket
import socketserver
import sys
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import pandas as pd

from scraperkit.cnpj import format_cnpj, normalize_cnpj
from scraperkit.errors import ConfigError
from scraperkit.models import Month
from scraperkit.replica import pages
from scraperkit.replica.faults import ServerFaults, checked
from scraperkit.replica.open_data import load_open_data
from scraperkit.replica.portal import PORTAL_PATH, Portal
from scraperkit.replica.portal_server import PortalSite
from scraperkit.replica.rate_services import B3_PATH, SGS_PATH, RateServices
from scraperkit.replica.sample import SampleFund
from scraperkit.replica.site import SITE_PATH, Site, SiteResponse, default_site, kind_of
from scraperkit.view import NotebookRepr, View

LOOPBACK = "127.0.0.1"
_MAX_FORM_BYTES = 1_000_000
_SESSIONS_KEPT = 100_000
_LARGEST_FACTOR = 1000.0
_SESSION = re.compile(r"(?:^|;) ?ASP\.NET_SessionId=([0-9a-f]{24})(?:;|$)")
_FAULTS = {"error": pages.render_error, "captcha": pages.render_captcha, "maintenance": pages.render_maintenance}
_log = logging.getLogger(__name__)


def addresses(pages: str, portal: str, rates: str) -> dict[str, str]:
    """Return the settings with which the kit uses a replica, from the addresses of its three ports.

    Examples
    --------
    >>> addresses("http://127.0.0.1:8765", "http://127.0.0.1:8766", "http://127.0.0.1:8767")["SCRAPERKIT_SGS_URL"]
    'http://127.0.0.1:8767/dados/serie/'
    """
    return {
        "SCRAPERKIT_CVM_URL": pages + SITE_PATH,
        "SCRAPERKIT_OPEN_DATA_URL": portal + PORTAL_PATH,
        "SCRAPERKIT_SGS_URL": rates + SGS_PATH,
        "SCRAPERKIT_B3_URL": rates + B3_PATH,
    }


class Replica(ServerFaults, NotebookRepr):
    """An offline stand-in for the regulator's site, filled with invented funds; on 127.0.0.1 by default.

    Create one with :meth:`start`; end it with :meth:`stop`, or use it in a ``with``. You can make it misbehave while it
    runs. The first page sets a session cookie; a form is valid only in its own session.

    Give figures that you collect from it a namespace or a Redis of their own: once stored, they look like real ones.
    :func:`~scraperkit.offline` does so, and uses a replica for everything.

    Attributes
    ----------
    url : str
        The address for a source, as in ``CvmPages(replica.url)``.
    open_data_url : str
        The base address of the open data portal, which has its own port; :attr:`portal` has its faults.
    sgs_url, b3_url : str
        The base addresses of the rate services, which share a separate port; :attr:`rates` has their faults.
    settings : dict of str to str
        The environment variables with which the kit uses this replica: all four addresses.
    funds : tuple of SampleFund
        The funds that it serves; one CNPJ may have two rows.
    captcha : bool
        Whether the search shows a captcha form, with status 200; may be set while it runs.
    maintenance : bool
        Whether every page is the maintenance page, with status 200; may be set while it runs.

    Examples
    --------
    >>> import requests
    >>> with Replica.start() as replica:
    ...     address = replica.url + "InfDiario/CPublicaInfDiario.aspx?PK_PARTIC=132922&SemFrame="
    ...     page = requests.get(address, timeout=10)
    >>> "dgDocDiario" in page.text, replica.requests["daily_get"]
    (True, 1)
    """

    def __init__(
        self, server: _SiteServer, site: Site, seed: int, open_data: PortalSite[Portal], rates: PortalSite[RateServices]
    ) -> None:
        self._server = server
        self._open_data = open_data
        self._rates = rates
        self._site = site
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._error_rate = 0.0
        self.captcha = self.maintenance = False
        self._sessions: dict[str, None] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="replica", daemon=True)
        self.settings = addresses(f"http://{server.server_name}:{server.server_port}", open_data.address, rates.address)
        self.url, self.open_data_url, self.sgs_url, self.b3_url = self.settings.values()
        self.funds: tuple[SampleFund, ...] = site.sample.funds

    @classmethod
    def start(
        cls,
        port: int = 0,
        latency: float = 0.0,
        error_rate: float = 0.0,
        *,
        seed: int = 0,
        host: str = LOOPBACK,
        open_data_port: int = 0,
        rates_port: int = 0,
    ) -> Self:
        """Start a replica and return it, ready to respond.

        Parameters
        ----------
        port : int
            0 takes a free one.
        latency : float
            Seconds that every response waits.
        error_rate : float
            Share of requests, 0 to 1, that get HTTP 500 or an HTML error page under status 200, at random.
        seed : int
            Makes these errors repeatable.
        host : str
            The IPv4 address to listen on; ``0.0.0.0`` also admits other machines, such as other containers.
        open_data_port : int
            Port of the open data portal; 0 takes a free one.
        rates_port : int
            Port of the rate services; 0 takes a free one.

        Raises
        ------
        ConfigError
            If an argument is invalid, or a port is taken.
        ScraperKitError
            If the sample is missing.
        """
        site = default_site()
        with contextlib.ExitStack() as opened:
            server = _listen("port", host, port, _Handler)
            opened.callback(server.server_close)
            open_data = PortalSite(
                lambda: Portal(load_open_data()), partial(_listen, "open_data_port", host), open_data_port
            )
            opened.callback(open_data.stop)
            rates = PortalSite(RateServices, partial(_listen, "rates_port", host), rates_port)
            opened.callback(rates.stop)
            replica = cls(server, site, seed, open_data, rates)
            replica.latency, replica.error_rate = latency, error_rate
            opened.pop_all()
        server.respond = replica._respond
        replica._thread.start()
        return replica

    @property
    def error_rate(self) -> float:
        """Share of requests, 0 to 1, that are answered with an error; may be set while it runs."""
        return self._error_rate

    @error_rate.setter
    def error_rate(self, share: float) -> None:
        self._error_rate = checked("error_rate", share, 1.0)

    @property
    def portal(self) -> Portal:
        """The open data portal: its files, and its faults on demand.

        Examples
        --------
        >>> import requests
        >>> with Replica.start() as replica:
        ...     address = replica.open_data_url + replica.portal.path("2024-03")
        ...     before = requests.get(address, timeout=10).headers["ETag"]
        ...     changes = replica.portal.restate("2024-03", share=0.01)
        ...     after = requests.get(address, timeout=10).headers["ETag"]
        >>> len(changes), before == after
        (4, False)
        """
        return self._open_data.portal

    @property
    def open_data_up(self) -> bool:
        """Whether the portal listens; set it to False to refuse connections."""
        return self._open_data.up

    @open_data_up.setter
    def open_data_up(self, up: bool) -> None:
        if up:
            self._open_data.start()
        else:
            self._open_data.stop()

    @property
    def rates(self) -> RateServices:
        """The rate services: their figures, and their faults on demand."""
        return self._rates.portal

    @property
    def rates_up(self) -> bool:
        """Whether the rate services listen; set it to False to refuse connections."""
        return self._rates.up

    @rates_up.setter
    def rates_up(self, up: bool) -> None:
        if up:
            self._rates.start()
        else:
            self._rates.stop()

    def restate(self, cnpj: str, month: str, factor: float = 1.01) -> pd.DataFrame:
        """Multiply the quotas of a fund's month, as if the fund had corrected its reports; later pages show that.

        Parameters
        ----------
        cnpj : str
            Punctuation is optional.
        month : str
            ``YYYY-MM``.
        factor : float
            Above 0.

        Returns
        -------
        pandas.DataFrame
            The quotas before and after, in reais: index ``date``, columns ``old`` and ``new`` (float64).

        Raises
        ------
        ConfigError
            If an argument is invalid, or the site shows no figures of the fund in that month.

        Examples
        --------
        >>> with Replica.start() as replica:
        ...     changes = replica.restate("18.993.924/0001-00", "2022-12", 2.0)
        >>> changes.loc["2022-12-01"].tolist()
        [3.90410065, 7.8082013]
        """
        if not checked("factor", factor, _LARGEST_FACTOR):
            raise ConfigError("factor: 0 would leave no quota; give a number above 0")
        cnpj = normalize_cnpj(cnpj)
        try:
            wanted = cnpj, str(Month.parse_iso(month))
        except ValueError as error:
            raise ConfigError(f"month: {error}") from None
        with self._lock:
            before = self._site.sample
            if not before.month(*wanted):
                raise ConfigError(f"month: the site shows no figures of {format_cnpj(cnpj)} in {month}")
            self._site = Site(before.restated(*wanted, factor))
            after = self._site.sample
        days = pd.DatetimeIndex([quote.date for quote in before.month(*wanted)], name="date")
        versions = {"old": before, "new": after}
        quotas = {name: [quote.quota for quote in sample.month(*wanted)] for name, sample in versions.items()}
        return pd.DataFrame(quotas, days, dtype="float64")

    def expire_sessions(self) -> None:
        """Forget all sessions: earlier forms then get a page that says so, with status 200."""
        with self._lock:
            self._sessions.clear()

    @property
    def requests(self) -> Counter[str]:
        """Count of requests by outcome; each is counted once.

        ``search``, ``search_post``, ``fund``, ``daily_get``, ``daily_post``, ``index`` and ``unknown`` were answered;
        ``error``, ``outage``, ``captcha`` and ``maintenance`` got a fault instead. A copy, which later requests do not
        change.
        """
        with self._lock:
            return self._counts.copy()

    def stop(self) -> None:
        """Stop answering, close every connection and end every thread; may be called twice."""
        self._stopping.set()
        self._open_data.stop()
        self._rates.stop()
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()
        self._thread.join()

    def serve_forever(self) -> None:
        """Block until SIGINT, SIGTERM or :meth:`stop`, then stop; for a command that does nothing else.

        It handles signals only in the main thread; in any other, only :meth:`stop` ends it.
        """
        previous: dict[signal.Signals, Any] = {}
        try:
            if threading.current_thread() is threading.main_thread():
                for number in (signal.SIGINT, signal.SIGTERM):
                    previous[number] = signal.signal(number, signal.default_int_handler)
            self._stopping.wait()
        except KeyboardInterrupt:
            _log.info("stopping %s", self.url)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            self.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Replica {self.url} {'stopped' if self._stopping.is_set() else 'running'}>"

    def _view(self) -> View:
        counts = ", ".join(f"{kind} {count}" for kind, count in sorted(self.requests.items())) or "none"
        facts = (
            ("address", self.url),
            ("open data", self.open_data_url if self.open_data_up else "down"),
            ("rates", self.sgs_url if self.rates_up else "down"),
            ("funds", str(len(self.funds))),
            ("latency", f"{self.latency:g} s"),
            ("error rate", f"{self.error_rate:g}"),
            ("requests", counts),
        )
        return View("Replica", "stopped" if self._stopping.is_set() else "running", facts)

    def _respond(
        self, method: str, target: str, body: bytes, cookies: str
    ) -> tuple[SiteResponse, dict[str, str]] | None:
        """Return the response and its extra headers, or None if the replica stops first."""
        if self._latency and self._stopping.wait(self._latency):
            return None
        left = self._outage_left()
        with self._lock:
            error = left <= 0 and self._error_rate > 0 and self._random.random() < self._error_rate
            status = 500 if error and self._random.random() < 0.5 else 200
            kind = kind_of(method, target)
            fault = "outage" if left > 0 else "error" if error else self._page_instead_of(kind)
            self._counts[fault or kind] += 1
        if fault == "outage":
            page = pages.render_error("Serviço temporariamente indisponível.")
            return SiteResponse(page, 503), {"Retry-After": str(math.ceil(left))}
        if fault:
            return SiteResponse(_FAULTS[fault](), status), {}
        session, headers = self._session(method, cookies)
        return self._site.respond(method, target, body, session), headers

    def _page_instead_of(self, kind: str) -> str:
        if self.maintenance and kind != "unknown":
            return "maintenance"
        return "captcha" if self.captcha and kind.startswith("search") else ""

    def _session(self, method: str, cookies: str) -> tuple[str, dict[str, str]]:
        """Return a request's session, empty if it is unknown, and the headers that begin a new one."""
        cookie = _SESSION.search(cookies)
        with self._lock:
            if cookie and cookie[1] in self._sessions:
                return cookie[1], {}
            if method != "GET":
                return "", {}
            session = secrets.token_hex(12)
            self._sessions[session] = None
            if len(self._sessions) > _SESSIONS_KEPT:
                del self._sessions[next(iter(self._sessions))]
        return session, {"Set-Cookie": f"ASP.NET_SessionId={session}; path=/; HttpOnly; SameSite=Lax"}


class _SiteServer(ThreadingHTTPServer):
    """One thread for each connection, all tracked so that they can be ended."""

    daemon_threads = True
    request_queue_size = 128
    respond: Callable[[str, str, bytes, str], tuple[SiteResponse, dict[str, str]] | None]

    def __init__(self, host: str, port: int, handler: Callable[..., Any]) -> None:
        self._conversations: dict[threading.Thread, socket.socket] = {}
        self._conversations_lock = threading.Lock()
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        # HTTPServer looks up its own name here, which takes seconds without a network.
        socketserver.TCPServer.server_bind(self)
        host, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.server_name = LOOPBACK if host == "0.0.0.0" else host  # noqa: S104

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self._converse, args=(request, client_address), name="replica connection", daemon=True
        )
        with self._conversations_lock:
            thread.start()
            self._conversations[thread] = request

    def _converse(self, request: Any, client_address: Any) -> None:
        try:
            self.process_request_thread(request, client_address)
        finally:
            with self._conversations_lock:
                self._conversations.pop(threading.current_thread(), None)

    def hang_up(self) -> None:
        """Close every connection; call it only when no new one can open."""
        with self._conversations_lock:
            conversations = dict(self._conversations)
        for connection in conversations.values():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in conversations:
            thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        # A client may disconnect at any time; any other error is a fault of the replica.
        level = logging.DEBUG if isinstance(sys.exception(), OSError) else logging.ERROR
        _log.log(level, "connection to %s failed", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """Reads requests off one connection and writes each response with a single send."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60
    server: _SiteServer

    def do_GET(self) -> None:
        self._reply(b"")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self.send_error(HTTPStatus.LENGTH_REQUIRED)
        elif len(length) > 9 or int(length) > _MAX_FORM_BYTES:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            self._reply(self.rfile.read(int(length)))

    def _reply(self, form: bytes) -> None:
        outcome = self.server.respond(self.command, self.path, form, self.headers.get("Cookie", ""))
        if outcome is None:
            self.close_connection = True
            return
        response, headers = outcome
        if response.location is not None:
            headers["Location"] = response.location
        headers["Connection"] = "close" if self.close_connection else "keep-alive"
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        start = (
            f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\n"
            f"Content-Type: text/html; charset={pages.ENCODING}\r\nContent-Length: {len(response.body)}\r\n{head}\r\n"
        )
        self.wfile.write(start.encode("ascii") + response.body)

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)


def _listen(field: str, host: str, port: int, handler: Callable[..., Any]) -> _SiteServer:
    try:
        return _SiteServer(host, port, handler)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"{field}: cannot listen on {port} ({error}); choose another, or 0 for a free one") from None

"""Request pages of a web site: politely, within time limits, and safely from many threads."""

from __future__ import annotations

import contextlib
import logging
import math
import random
import re
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit

from requests import Request
from requests.cookies import MockRequest, MockResponse, RequestsCookieJar
from requests.utils import get_auth_from_url
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    IncompleteRead,
    InvalidHeader,
    LocationValueError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import Retry, make_headers

from scraperkit.config import Settings, __version__
from scraperkit.errors import NotACvmPage, SiteUnavailable, SourceError
from scraperkit.sources.markup import decode
from scraperkit.sources.politeness import Politeness, crawl_delay
from scraperkit.sources.says import says
from scraperkit.sources.wire import EndedHereError, Exchange, Reply, TooLateError, Wire

log = logging.getLogger(__name__)
BACKOFF = 0.5
BACKOFF_LIMIT = 10.0
REDIRECTS_LIMIT = 10
MOST_LOOK_UPS = 3  # attempts: a caller is waiting
_RETRIED = frozenset({429, *range(500, 600)})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEP_THE_FORM = frozenset({307, 308})
ROBOTS_LENGTH = 100_000
ROBOTS_SECONDS = 300.0
USER_AGENT = f"scraperkit/{__version__} (research; python-requests)"
_HEADERS = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_CREDENTIALS = re.compile(r"//[^/?#]*@")

_NO_RESPONSE = "the site does not respond"
_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (ProxyError, "the proxy is unreachable or refuses"),
    (SSLError, "the site's certificate or TLS version is not accepted"),
    (NewConnectionError, f"{_NO_RESPONSE}: the connection fails"),
    (ConnectTimeoutError, f"{_NO_RESPONSE}: connecting timed out"),
    (ReadTimeoutError, f"{_NO_RESPONSE}: reading timed out"),
    (DecodeError, "the site's compressed data is damaged"),
    (IncompleteRead, "the site's response broke off within the page"),
    (LocationValueError, "the site's address is invalid"),
)


class ClosedHere(SiteUnavailable):
    """The client was closed, or this thread's wait was ended: not a fault of the site."""


_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """The response to a request.

    Attributes
    ----------
    url : str
        The address after all redirects.
    content : bytes
        The page.
    content_type : str
        The ``Content-Type`` header.
    cookies : RequestsCookieJar
        The site's cookies as of this page; a form on it needs them in :meth:`HttpClient.post`.
    status : int
        The HTTP status.
    """

    url: str
    content: bytes
    content_type: str
    cookies: RequestsCookieJar
    status: int = HTTPStatus.OK

    @property
    def shown_url(self) -> str:
        """The address without user name and password."""
        return without_credentials(self.url)


@dataclass(frozen=True, slots=True)
class Download:
    """The response for a file: the address after all redirects, the status, and the headers, in any case."""

    url: str
    status: int
    headers: Mapping[str, str]


@dataclass(slots=True)
class _Errand:
    """A request of one thread, and those that redirects turn it into.

    `more` holds further headers; `begin` returns, for each attempt, a function that takes a file's chunks.
    """

    method: str
    url: str
    form: str | None
    cookies: RequestsCookieJar
    exchange: Exchange
    retries: int
    most: int
    limit: str
    more: Mapping[str, str] = field(default_factory=dict)
    begin: Callable[[], Callable[[bytes], object]] | None = None

    @property
    def shown_url(self) -> str:
        return without_credentials(self.url)

    def headers(self) -> dict[str, str]:
        name, password = get_auth_from_url(self.url)
        headers = _HEADERS | (make_headers(basic_auth=f"{name}:{password}") if name or password else {})
        headers |= self.more
        if self.form is not None:
            headers |= _FORM
        if len(self.cookies):
            request = self._as_cookies_see_it()
            self.cookies.add_cookie_header(request)
            headers |= request.get_new_headers()
        return headers

    def keep_cookies(self, reply: Reply) -> None:
        if "Set-Cookie" in reply.headers:
            seen: Any = MockResponse(reply.headers)
            self.cookies.extract_cookies(seen, self._as_cookies_see_it())

    def _as_cookies_see_it(self) -> Any:
        return MockRequest(Request(self.method, self.url))

    def follow(self, reply: Reply, way: str, variable: str) -> bool:
        """Follow a reply's redirect; return False if it has none.

        Errors quote `way`, which names a proxy, and `variable`, which sets the address.

        Raises
        ------
        NotACvmPage
            If it leads to another host.
        """
        target = reply.headers.get("Location")
        if reply.status not in _REDIRECTS or target is None:
            return False
        try:
            there = urljoin(self.url, target)
            followed = _is_same_site(urlsplit(self.url), urlsplit(there))
        except ValueError:
            there, followed = "an invalid address", False
        if not followed:
            shown = without_credentials(re.split("[?#]", there)[0])[:200]
            raise NotACvmPage(
                f"the site redirects to {shown}, another host, so it is not followed{way}; if the site has moved, "
                f"set {variable}",
                self.shown_url,
            )
        self.url = there
        if reply.status not in _KEEP_THE_FORM:
            self.method, self.form = "GET", None
        return True


class HttpClient:
    """Client of one site, with retries, time limits and a size limit.

    A POST is retried like a GET: the kit's POSTs only read.

    Parameters
    ----------
    settings : Settings
        Time limits, number of retries, and the longest page.
    politeness : Politeness
        The site, and its rate limit.
    variable : str
        The environment variable of the site's address, for messages.

    Raises
    ------
    ConfigError
        If the environment names a proxy whose address is invalid.
    """

    def __init__(self, settings: Settings, politeness: Politeness, variable: str = "SCRAPERKIT_CVM_URL") -> None:
        self._settings = settings
        self._variable = variable
        self._politeness = politeness
        self._wire = Wire(politeness.url, connect_timeout=settings.connect_timeout, read_timeout=settings.read_timeout)
        self._exchanges: set[Exchange] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._robots_lock = threading.Lock()
        self._robots_until = -math.inf

    @property
    def way(self) -> str:
        """The proxy in use, as part of a sentence; empty if there is none."""
        return _way(self._wire)

    def get(self, url: str, statuses: Container[int] = (HTTPStatus.OK,)) -> HttpResponse:
        """Request a page, as a new visitor.

        Parameters
        ----------
        url : str
            Its address.
        statuses : container of int
            The statuses that count as a response; some services use others than 200.

        Raises
        ------
        SiteUnavailable
            If there is no response in time, or HTTP 429 or 5xx, after all retries; or if the client is closed.
        NotACvmPage
            If the response's status is not in `statuses`, or it redirects to another host.
        SourceError
            If the page is longer than `Settings.max_page_bytes`.
        """
        return self._ask("GET", url, None, RequestsCookieJar(), statuses)

    def post(self, url: str, form: str, cookies: RequestsCookieJar) -> HttpResponse:
        """Send an encoded form with its page's cookies, and return the response; raises what :meth:`get` does."""
        return self._ask("POST", url, form, cookies.copy())

    def download(
        self, url: str, headers: Mapping[str, str], begin: Callable[[], Callable[[bytes], object]]
    ) -> Download:
        """Request a file of any length, and pass it on in chunks.

        `begin` is called before each attempt, and returns a function that takes the chunks and must not raise
        ``OSError``. Only a response with status 200 is passed on.

        Raises
        ------
        SiteUnavailable
            As :meth:`get`, and if the file breaks off in every attempt.
        """
        seconds = self._settings.download_timeout
        limit = f"SCRAPERKIT_DOWNLOAD_TIMEOUT={seconds:g}"
        with self._exchange(url, seconds) as exchange:
            errand = _Errand(
                *("GET", url, None, RequestsCookieJar(), exchange, self._settings.http_retries, 0, limit),
                {"Accept-Encoding": "identity", **headers},
                begin,
            )
            reply = self._run(errand)
        return Download(errand.url, reply.status, reply.headers)

    def learn_pace(self, url: str) -> None:
        """Learn the crawl delay from the site's robots.txt, unless it is known; send no other request."""
        with self._exchange(url, self._settings.robots_timeout):
            pass

    def interrupt(self, threads: Container[int]) -> None:
        """End the waits of these threads, given by identifier: they fail as if the site did not respond."""
        with self._lock:
            exchanges = [exchange for exchange in self._exchanges if exchange.thread in threads]
        for exchange in exchanges:
            exchange.end()

    def rest(self, seconds: float) -> None:
        """Wait; raises :exc:`ClosedHere` if the wait is ended, like a request."""
        with self._under_way(seconds) as exchange:
            if exchange.ended.wait(seconds):
                raise ClosedHere(
                    "the connection to the site was closed here", without_credentials(self._politeness.url)
                )

    def close(self) -> None:
        """Close all connections, and end every wait and every request of any thread. May be called twice."""
        with self._lock:
            self._closed = True
            exchanges = list(self._exchanges)
        for exchange in exchanges:
            exchange.end()
        self._wire.close()

    def _ask(
        self,
        method: str,
        url: str,
        form: str | None,
        cookies: RequestsCookieJar,
        statuses: Container[int] = (HTTPStatus.OK,),
    ) -> HttpResponse:
        settings = self._settings
        limit = f"SCRAPERKIT_PAGE_TIMEOUT={settings.page_timeout:g}"
        with self._exchange(url, settings.page_timeout) as exchange:
            errand = _Errand(
                *(method, url, form, cookies, exchange, settings.http_retries, settings.max_page_bytes, limit)
            )
            reply = self._run(errand)
        if reply.status not in statuses:
            raise NotACvmPage(f"the site returns {reply.status}{_says(reply)}{self.way}", errand.shown_url)
        if len(reply.content) > settings.max_page_bytes:
            limit = f"{settings.max_page_bytes:,} bytes (SCRAPERKIT_MAX_PAGE_BYTES)"
            raise SourceError(f"the page is longer than {limit}{self.way}", errand.shown_url)
        return HttpResponse(
            errand.url, reply.content, reply.headers.get("Content-Type", ""), errand.cookies, reply.status
        )

    @contextlib.contextmanager
    def _exchange(self, url: str, seconds: float) -> Iterator[Exchange]:
        """Begin an exchange at the rate that the site's robots.txt requests."""
        try:
            with self._under_way(seconds) as exchange:
                self._heed_robots(urljoin(url, "/robots.txt"), exchange)
                yield exchange
        except EndedHereError:
            raise ClosedHere("the connection to the site was closed here", without_credentials(url)) from None

    @contextlib.contextmanager
    def _under_way(self, seconds: float) -> Iterator[Exchange]:
        """Register an exchange, so that other threads can end it."""
        exchange = Exchange(seconds)
        with self._lock:
            if self._closed:
                exchange.end()
            self._exchanges.add(exchange)
        try:
            yield exchange
        finally:
            with self._lock:
                self._exchanges.discard(exchange)

    def _heed_robots(self, url: str, waiting: Exchange) -> None:
        """Learn the site's crawl delay: once a process, and again after a while if that failed."""
        with self._robots_lock:
            if time.monotonic() < self._robots_until or waiting.ended.is_set():
                return
            delay = self._politeness.known_crawl_delay()
            if delay is None:
                delay = self._fetch_crawl_delay(url)
            if delay is not None:
                self._politeness.heed(delay)
            self._robots_until = time.monotonic() + (ROBOTS_SECONDS if delay is None else math.inf)

    def _fetch_crawl_delay(self, url: str) -> float | None:
        with self._under_way(self._settings.robots_timeout) as exchange:
            try:
                limit = f"SCRAPERKIT_ROBOTS_TIMEOUT={self._settings.robots_timeout:g}"
                reply = self._run(_Errand("GET", url, None, RequestsCookieJar(), exchange, 0, ROBOTS_LENGTH, limit))
            except SourceError as error:
                log.info("robots.txt cannot be read, so no Crawl-delay is known for now: %s", error)
                return None
        text = reply.content.decode("utf-8-sig", "replace") if reply.status == HTTPStatus.OK else ""
        return crawl_delay(text, USER_AGENT)

    def _run(self, errand: _Errand) -> Reply:
        """Follow an errand to the end of its redirects; each request waits for its turn."""
        for _ in range(REDIRECTS_LIMIT + 1):
            reply = self._send(errand)
            errand.keep_cookies(reply)
            if not errand.follow(reply, self.way, self._variable):
                return reply
        raise SiteUnavailable(f"the site redirects without end{self.way}", errand.shown_url)

    def _send(self, errand: _Errand) -> Reply:
        """Send one request, with retries."""
        exchange, trouble = errand.exchange, ""
        for tried in range(errand.retries + 1):
            self._wait(exchange, backoff=min(BACKOFF_LIMIT, BACKOFF * 2**tried) if tried > 1 else 0.0)
            try:
                reply = self._wire.send(
                    *(exchange, errand.method, errand.url),
                    headers=errand.headers(),
                    body=errand.form,
                    most=errand.most,
                    write=errand.begin() if errand.begin is not None else None,
                )
            except TooLateError:
                trouble = f"the site does not send the whole response in time ({errand.limit})"
                break
            except (OSError, ValueError, HTTPError) as error:
                # Their messages are not passed on: they may contain a proxy's password.
                trouble = _reason(error)
                continue
            if reply.status not in _RETRIED:
                return reply
            tries = " after all retries" if errand.retries else ""
            trouble = f"HTTP {reply.status}{tries}{_says(reply)}"
            if seconds := _retry_after(reply):
                # Even after the last attempt: the pause applies to all workers.
                self._politeness.pause(seconds)
        raise SiteUnavailable(f"{trouble}{self.way}", errand.shown_url)

    def _wait(self, exchange: Exchange, *, backoff: float) -> None:
        if backoff and exchange.ended.wait(backoff + random.uniform(0, BACKOFF)):
            raise EndedHereError
        if not self._politeness.wait(exchange.ended):
            raise EndedHereError


def probe(url: str, settings: Settings) -> int:
    """Return the status of an address: one request, outside the rate limit, with no redirect followed.

    Raises
    ------
    SiteUnavailable
        If it does not respond in time.
    ConfigError
        If the environment names a proxy whose address is invalid.
    """
    wire = Wire(url, connect_timeout=settings.connect_timeout, read_timeout=settings.connect_timeout)
    try:
        exchange = Exchange(settings.connect_timeout)
        return wire.send(exchange, "GET", url, headers=_HEADERS, body=None, most=0).status
    except TooLateError:
        raise SiteUnavailable(f"no response in {settings.connect_timeout:g} s{_way(wire)}") from None
    except (OSError, ValueError, HTTPError) as error:
        raise SiteUnavailable(f"{_reason(error)}{_way(wire)}") from None
    finally:
        wire.close()


def ask_again(
    ask: Callable[[], _Found],
    is_transient: Callable[[Exception], bool],
    settings: Settings,
    rest: Callable[[float], object] = time.sleep,
) -> _Found:
    """Call `ask` up to three times.

    Parameters
    ----------
    ask : callable
        Returns the response, or raises.
    is_transient : callable
        Whether to retry after an error; any other is raised.
    settings : Settings
        The number of attempts and the pauses of jobs. No attempt begins later than ``site_patience`` after the first,
        or ``page_timeout`` if that is unset.
    rest : callable
        Waits for a number of seconds.

    Examples
    --------
    >>> responses = iter([OSError("reset"), "page"])
    >>> def ask():
    ...     if isinstance(response := next(responses), OSError):
    ...         raise response
    ...     return response
    >>> ask_again(ask, lambda error: isinstance(error, OSError), Settings(backoff=0))
    'page'
    """
    until = time.monotonic() + (settings.site_patience or settings.page_timeout)
    pause = min(settings.backoff, settings.backoff_limit)
    for _ in range(1, min(settings.max_attempts, MOST_LOOK_UPS)):
        try:
            return ask()
        except Exception as error:
            if not is_transient(error) or time.monotonic() + pause >= until:
                raise
        rest(pause)
        pause = min(2 * pause, settings.backoff_limit)
    return ask()


def _way(wire: Wire) -> str:
    """Return the proxy in use, as part of a sentence."""
    return f", through the proxy {wire.proxy} (NO_PROXY lists the hosts that bypass it)" if wire.proxy else ""


def _says(reply: Reply) -> str:
    return says(decode(reply.content, reply.headers.get("Content-Type", "")))


def _retry_after(reply: Reply) -> float | None:
    """Return the pause that a response requests, in seconds."""
    try:
        return Retry().parse_retry_after(reply.headers["Retry-After"])
    except (KeyError, InvalidHeader, ValueError, OverflowError):
        return None


def _is_same_site(here: SplitResult, there: SplitResult) -> bool:
    """Return whether two addresses are on one site; from HTTP to HTTPS counts as the same."""
    ports = {"http": 80, "https": 443}
    if here.hostname != there.hostname or there.scheme not in ports:
        return False
    ends = (here.scheme, here.port or ports[here.scheme]), (there.scheme, there.port or ports[there.scheme])
    return ends[0] == ends[1] or ends == (("http", 80), ("https", 443))


def without_credentials(url: str) -> str:
    """Return an address without user name and password.

    Examples
    --------
    >>> without_credentials("http://me:secret@localhost:8000/a?b=c")
    'http://localhost:8000/a?b=c'
    """
    return _CREDENTIALS.sub("//", url, count=1)


def _reason(error: Exception) -> str:
    causes = list(_causes(error))
    words = next(
        (text for kind, text in _WORDS for cause in causes if isinstance(cause, kind)),
        f"{_NO_RESPONSE}: the connection fails",
    )
    # Only the system's own messages are sure to contain no address.
    detail = next(filter(None, (cause.strerror for cause in causes if isinstance(cause, OSError))), "")
    return f"{words} ({detail})" if detail else words


def _causes(error: object) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    waiting = [error]
    while waiting and len(seen) < 20:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and cause not in seen:
            seen.append(cause)
            waiting += [getattr(cause, "reason", None), cause.__cause__, cause.__context__, *cause.args]
    return iter(seen)

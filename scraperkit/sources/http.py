"""Asks a web site for pages: polite, patient within limits, and safe to use from many threads."""

from __future__ import annotations

import contextlib
import math
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, InvalidHeader, ReadTimeoutError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry

from scraperkit.config import Settings, __version__
from scraperkit.errors import NotACvmPage, SiteUnavailable, SourceError
from scraperkit.sources.politeness import Politeness, crawl_delay

BACKOFF = 0.5
BACKOFF_LIMIT = 10.0
REDIRECTS_LIMIT = 10
_RETRIED = frozenset({429, *range(500, 600)})
_CHUNK = 65_536
ROBOTS_LENGTH = 100_000
ROBOTS_SECONDS = 300.0
USER_AGENT = f"scraperkit/{__version__} (research; python-requests)"
_CREDENTIALS = re.compile(r"//[^/?#]*@")


_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (requests.exceptions.ProxyError, "the proxy is away or refuses"),
    (requests.exceptions.SSLError, "its certificate or its TLS does not fit"),
    (requests.exceptions.ConnectTimeout, "no connection in time"),
    (ReadTimeoutError, "its bytes do not come in time"),
    (requests.exceptions.TooManyRedirects, "it redirects without end"),
    (requests.exceptions.ContentDecodingError, "what it sends cannot be unpacked"),
    (requests.exceptions.ChunkedEncodingError, "it broke off in the middle of the page"),
    (requests.exceptions.InvalidURL, "the address does not fit"),
)


class _ClosedHereError(Exception):
    """The client was closed, maybe by another thread."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the address after all redirects, the bytes, and the ``Content-Type`` header."""

    url: str
    content: bytes
    content_type: str

    @property
    def shown_url(self) -> str:
        """The address as it may be shown: without a password."""
        return without_credentials(self.url)


@dataclass(frozen=True, slots=True)
class Download:
    """What came back for a file: the address after all redirects, the status, and the headers, any case of letters."""

    url: str
    status: int
    headers: Mapping[str, str]


class HttpClient:
    """One ``requests`` session a thread, with retries, time limits and a size limit.

    A POST is retried as a GET is: those of this kit only read.

    Parameters
    ----------
    settings : Settings
        Time limits, number of retries, and the longest page.
    politeness : Politeness
        When the site may be asked.
    """

    def __init__(self, settings: Settings, politeness: Politeness) -> None:
        self._settings = settings
        self._politeness = politeness
        self._local = threading.local()
        # Weak, so that the session of a thread that ended goes with it; urllib3 closes its sockets then.
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._robots_lock = threading.Lock()
        self._robots_until = -math.inf

    def get(self, url: str) -> Answer:
        """Ask for a page.

        Raises
        ------
        SiteUnavailable
            If no answer came, or 429 or 5xx, after all retries; or if the client is closed.
        NotACvmPage
            If the answer's status is another one than 200.
        SourceError
            If the page is longer than `Settings.max_page_bytes`.
        """
        return self._ask("GET", url, None)

    def post(self, url: str, form: Mapping[str, str]) -> Answer:
        """Send a form, and ask for the page that comes of it; raises what :meth:`get` does."""
        return self._ask("POST", url, form)

    def download(self, url: str, headers: Mapping[str, str], write: Callable[[bytes], object]) -> Download:
        """Ask for a file of any length, and pass it on piece by piece; what `write` raises must not be an OSError.

        An answer with another status than 200 is returned with nothing written.

        Raises
        ------
        SiteUnavailable
            As :meth:`get`, and if the file breaks off.
        """
        with self._asked("GET", url, None, headers) as response:
            self._refuse_unavailable(response)
            if response.status_code == requests.codes.ok:
                for chunk in response.iter_content(_CHUNK):
                    write(chunk)
            return Download(response.url, response.status_code, response.headers)

    def close(self) -> None:
        """Close the sessions of all threads, and end every wait between retries. May be called twice."""
        with self._lock:
            self._closed.set()
            sessions = list(self._sessions)
        for session in sessions:
            session.close()

    def _ask(self, method: str, url: str, form: Mapping[str, str] | None) -> Answer:
        with self._asked(method, url, form, {}) as response:
            return self._answer(response)

    @contextlib.contextmanager
    def _asked(
        self, method: str, url: str, form: Mapping[str, str] | None, headers: Mapping[str, str]
    ) -> Iterator[requests.Response]:
        limits = (self._settings.connect_timeout, self._settings.read_timeout)
        try:
            self._heed_robots(url)
            if not self._politeness.wait(self._closed):
                raise _ClosedHereError
            with self._session().request(
                method, url, data=form, headers=headers, timeout=limits, stream=True
            ) as response:
                yield response
        except _ClosedHereError:
            raise SiteUnavailable("the connection to the site was closed here", without_credentials(url)) from None
        except (OSError, ValueError, HTTPError) as error:
            # requests lets some through as they are, such as the ValueError for a broken redirect. Their own words are
            # not passed on: they may hold a proxy's address with its password.
            raise SiteUnavailable(f"the site does not answer: {_reason(error)}", without_credentials(url)) from None

    def _heed_robots(self, url: str) -> None:
        """Learn how fast the site wants to be asked: once a process, and again after a while where it did not say."""
        with self._robots_lock:
            if time.monotonic() < self._robots_until:
                return
            delay = self._politeness.known_crawl_delay()
            if delay is None:
                delay = self._fetch_crawl_delay(urljoin(url, "/robots.txt"))
            if delay is not None:
                self._politeness.heed(delay)
            self._robots_until = time.monotonic() + (ROBOTS_SECONDS if delay is None else math.inf)

    def _fetch_crawl_delay(self, url: str) -> float | None:
        limits = (self._settings.connect_timeout, self._settings.connect_timeout)
        agent = {"User-Agent": USER_AGENT}
        try:
            with requests.get(url, headers=agent, timeout=limits, stream=True) as response:
                if response.status_code >= 500:
                    return None
                text = response.raw.read(ROBOTS_LENGTH, decode_content=True) if response.ok else b""
        except (OSError, ValueError, HTTPError):
            return None
        return crawl_delay(text.decode("utf-8", "replace"), USER_AGENT)

    def _refuse_unavailable(self, response: requests.Response) -> None:
        if response.status_code in _RETRIED:
            # No try is left here, but what the site asks for holds for everybody.
            if asked := _asked_for(response.raw):
                self._politeness.pause(asked)
            url = without_credentials(response.url)
            raise SiteUnavailable(f"the site answers {response.status_code}, whatever the retries", url)

    def _answer(self, response: requests.Response) -> Answer:
        url = without_credentials(response.url)
        self._refuse_unavailable(response)
        if response.status_code != requests.codes.ok:
            raise NotACvmPage(f"the site answers {response.status_code}", url)
        content = bytearray()
        for chunk in response.iter_content(_CHUNK):
            content += chunk
            if len(content) > self._settings.max_page_bytes:
                limit = f"{self._settings.max_page_bytes:,} bytes (SCRAPERKIT_MAX_PAGE_BYTES)"
                raise SourceError(f"the page is longer than {limit}", url)
        return Answer(response.url, bytes(content), response.headers.get("Content-Type", ""))

    def _session(self) -> requests.Session:
        with self._lock:
            if self._closed.is_set():
                raise _ClosedHereError
            session: requests.Session | None = getattr(self._local, "session", None)
            if session is None:
                session = self._local.session = self._new_session()
                self._sessions.add(session)
            return session

    def _new_session(self) -> requests.Session:
        session = requests.Session()
        session.max_redirects = REDIRECTS_LIMIT
        session.headers["User-Agent"] = USER_AGENT
        retries = _PatientRetry(
            total=self._settings.http_retries,
            allowed_methods=None,
            status_forcelist=_RETRIED,
            backoff_factor=BACKOFF,
            backoff_max=BACKOFF_LIMIT,
            backoff_jitter=BACKOFF,
            raise_on_status=False,
            closed=self._closed,
            politeness=self._politeness,
        )
        adapter = _ClosingAdapter(pool_connections=2, pool_maxsize=1, max_retries=retries)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        return session


class _ClosingAdapter(HTTPAdapter):
    """An HTTPAdapter that closes its sockets; the one of requests leaves them to the garbage collector."""

    def close(self) -> None:
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118 - iterating over the container itself is not thread-safe
                if (pool := manager.pools.get(key)) is not None:
                    pool.close()
        super().close()


class _PatientRetry(Retry):
    """A Retry that shares what the site asks for, and does not wait when the client is closed."""

    def __init__(self, *args: Any, closed: threading.Event, politeness: Politeness, **options: Any) -> None:
        super().__init__(*args, **options)
        self._closed = closed
        self._politeness = politeness

    def new(self, **changed: Any) -> Self:
        return super().new(closed=self._closed, politeness=self._politeness, **changed)

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        asked = _asked_for(response)
        if asked:
            # Everybody is to wait, not just this thread.
            self._politeness.pause(asked)
        elif self._closed.wait(self.get_backoff_time()):
            raise _ClosedHereError
        if not self._politeness.wait(self._closed):
            raise _ClosedHereError


def _asked_for(response: BaseHTTPResponse | None) -> float | None:
    """Seconds to stay away, if an answer says so."""
    try:
        return Retry().get_retry_after(response) if response is not None else None
    except (InvalidHeader, ValueError, OverflowError):
        return None


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
    words = next((text for kind, text in _WORDS for cause in causes if isinstance(cause, kind)), "the connection fails")
    # A RequestException is an OSError too, but only what the system itself says is sure to hold no address.
    system = (cause.strerror for cause in causes if isinstance(cause, OSError) and not _is_of_requests(cause))
    told = next(filter(None, system), "")
    return f"{words} ({told})" if told else words


def _is_of_requests(error: BaseException) -> bool:
    return isinstance(error, requests.RequestException)


def _causes(error: object) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    waiting = [error]
    while waiting and len(seen) < 20:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and cause not in seen:
            seen.append(cause)
            waiting += [getattr(cause, "reason", None), cause.__cause__, cause.__context__, *cause.args]
    return iter(seen)

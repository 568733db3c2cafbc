"""Asks a web site for pages: polite, patient within limits, and safe to use from many threads."""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, InvalidHeader, ReadTimeoutError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry

import scraperkit
from scraperkit.config import Settings
from scraperkit.errors import NotACvmPage, SiteUnavailable, SourceError

RETRY_AFTER_LIMIT = 30.0
BACKOFF = 0.5
BACKOFF_LIMIT = 10.0
REDIRECTS_LIMIT = 10
_RETRIED = frozenset({429, *range(500, 600)})
_CHUNK = 65_536
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


class HttpClient:
    """One ``requests`` session a thread, with retries, time limits and a size limit.

    A POST is retried as a GET is: those of this kit only read.

    Parameters
    ----------
    settings : Settings
        Time limits, number of retries, and the longest page.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._local = threading.local()
        # Weak, so that the session of a thread that ended goes with it; urllib3 closes its sockets then.
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._closed = threading.Event()

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

    def close(self) -> None:
        """Close the sessions of all threads, and end every wait between retries. May be called twice."""
        with self._lock:
            self._closed.set()
            sessions = list(self._sessions)
        for session in sessions:
            session.close()

    def _ask(self, method: str, url: str, form: Mapping[str, str] | None) -> Answer:
        limits = (self._settings.connect_timeout, self._settings.read_timeout)
        try:
            with self._session().request(method, url, data=form, timeout=limits, stream=True) as response:
                return self._answer(response)
        except _ClosedHereError:
            raise SiteUnavailable("the connection to the site was closed here", without_credentials(url)) from None
        except (OSError, ValueError, HTTPError) as error:
            # requests lets some through as they are, such as the ValueError for a broken redirect. Their own words are
            # not passed on: they may hold a proxy's address with its password.
            raise SiteUnavailable(f"the site does not answer: {_reason(error)}", without_credentials(url)) from None

    def _answer(self, response: requests.Response) -> Answer:
        url = without_credentials(response.url)
        if response.status_code in _RETRIED:
            raise SiteUnavailable(f"the site answers {response.status_code}, whatever the retries", url)
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
        session.headers["User-Agent"] = f"scraperkit/{scraperkit.__version__} (research; python-requests)"
        retries = _PatientRetry(
            total=self._settings.http_retries,
            allowed_methods=None,
            status_forcelist=_RETRIED,
            backoff_factor=BACKOFF,
            backoff_max=BACKOFF_LIMIT,
            backoff_jitter=BACKOFF,
            raise_on_status=False,
            closed=self._closed,
        )
        adapter = HTTPAdapter(pool_connections=2, pool_maxsize=1, max_retries=retries)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        return session


class _PatientRetry(Retry):
    """A Retry that does not wait longer than it should, nor when the client is closed."""

    def __init__(self, *args: Any, closed: threading.Event | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._closed = closed or threading.Event()

    def new(self, **changed: Any) -> Self:
        return super().new(closed=self._closed, **changed)

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        if self._closed.wait(self._seconds(response)):
            raise _ClosedHereError

    def _seconds(self, response: BaseHTTPResponse | None) -> float:
        try:
            asked = self.get_retry_after(response) if response is not None else None
        except (InvalidHeader, ValueError, OverflowError):
            asked = None
        return min(asked, RETRY_AFTER_LIMIT) if asked else self.get_backoff_time()


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

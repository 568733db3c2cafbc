"""Request a rate of a service politely, again if it sends a web page in place of values."""

from __future__ import annotations

from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import redis as redis_py

from scraperkit.config import Settings
from scraperkit.errors import SiteUnavailable, SourceError
from scraperkit.sources.cvm_pages import checked_base
from scraperkit.sources.http import HttpClient, HttpResponse
from scraperkit.sources.markup import decode
from scraperkit.sources.politeness import Politeness
from scraperkit.sources.rates import b3, sgs
from scraperkit.sources.rates.known import Rate
from scraperkit.sources.rates.responses import RateSample, Span, is_web_page
from scraperkit.sources.says import says
from scraperkit.sources.wire import leads_here

# A caller is waiting: an open circuit, or an unreachable Redis, must not take longer.
NOTEBOOK_PATIENCE = 60.0


def sent_at_once(rate: Rate, span: Span) -> Span:
    """Return the span that a service sends for a span: B3 sends whole years.

    Examples
    --------
    >>> import datetime as dt
    >>> from scraperkit.sources.rates.known import KNOWN_RATES
    >>> sent_at_once(KNOWN_RATES["ibovespa"], Span(dt.date(2022, 3, 1), dt.date(2023, 1, 5))).last
    datetime.date(2023, 12, 31)
    """
    if rate.service == "sgs" or span.last < span.first:
        return span
    return Span(span.first.replace(month=1, day=1), span.last.replace(month=12, day=31))


def base_of(rate: Rate, settings: Settings) -> str:
    """Return the address of a rate's service; raises ``ConfigError`` if it is invalid."""
    variable = f"SCRAPERKIT_{rate.service.upper()}_URL"
    return checked_base(settings.sgs_url if rate.service == "sgs" else settings.b3_url, variable)


def is_invented(rate: Rate, settings: Settings) -> bool:
    """Return whether the service is on this machine: a replica, with invented figures."""
    return leads_here(urlsplit(base_of(rate, settings)).hostname or "")


class RateService:
    """The service of one rate; use it in a ``with``, which closes its connections.

    Parameters
    ----------
    rate : Rate
    redis : redis.Redis
        Through which the service's limits are shared.
    settings : Settings
        Its address, time limits, retries and rate.

    Raises
    ------
    ConfigError
        If the service's address is invalid.
    """

    def __init__(self, rate: Rate, redis: redis_py.Redis, settings: Settings) -> None:
        self._rate = rate
        self._settings = settings
        self._base = base_of(rate, settings)
        hasty = settings.model_copy(update={"site_patience": settings.site_patience or NOTEBOOK_PATIENCE})
        self._politeness = Politeness(self._base, hasty)
        self._politeness.share(redis)
        self._http = HttpClient(hasty, self._politeness, f"SCRAPERKIT_{rate.service.upper()}_URL")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._http.close()

    def fetch(self, span: Span) -> list[RateSample]:
        """Return the values of the days of a span; a request for every ten years, or for every year.

        Raises
        ------
        SourceError
            If the service does not respond, refuses, or sends no values.
        """
        samples: list[RateSample] = []
        for piece in sgs.pieces(span) if self._rate.service == "sgs" else b3.pieces(span):
            try:
                samples += self._piece(piece)
            except SourceError as error:
                # A service that refuses a request is still up.
                if error.retryable:
                    self._politeness.failed(str(error))
                raise
            self._politeness.succeeded()
        return [sample for sample in samples if span.first <= sample.day <= span.last]

    def _piece(self, span: Span) -> list[RateSample]:
        if self._rate.service == "sgs":
            response = self._ask(sgs.address(self._base, self._rate, span))
            return sgs.read(self._rate, span, response.status, response.content, response.shown_url)
        response = self._ask(b3.address(self._base, self._rate, span))
        return b3.read(self._rate, span, response.content, response.shown_url)

    def _ask(self, url: str) -> HttpResponse:
        statuses = sgs.STATUSES if self._rate.service == "sgs" else frozenset({200})
        for _ in range(self._settings.http_retries + 1):
            response = self._http.get(url, statuses)
            if response.status != 200 or not is_web_page(response.content, response.content_type):
                return response
        words = says(decode(response.content, response.content_type))
        raise SiteUnavailable(
            f"{self._rate.source}: HTTP 200 with a web page instead of values{words}; try again later",
            response.shown_url,
        )
